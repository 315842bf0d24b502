# Generated sources: the ONNX schema for protobuf-c, and the embedded runtime as bitcode, once per
# target triple, so that any host compiles for any listed target.
set(generated ${CMAKE_CURRENT_BINARY_DIR}/generated)
file(MAKE_DIRECTORY ${generated})

set(ML_ONNX_PROTO_C ${generated}/onnx.pb-c.c)
add_custom_command(OUTPUT ${generated}/onnx.pb-c.c ${generated}/onnx.pb-c.h
	COMMAND ${PROTOC_C} --proto_path=${CMAKE_CURRENT_SOURCE_DIR}/frontend --c_out=${generated} onnx.proto
	DEPENDS frontend/onnx.proto VERBATIM)

set(ML_TRIPLES x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu)
set(ML_EMBEDDED_C)
file(GLOB embed_sources CONFIGURE_DEPENDS runtime/embed/*.c)
file(GLOB embed_headers CONFIGURE_DEPENDS runtime/*.h runtime/embed/*.h)
foreach(triple ${ML_TRIPLES})
	string(REGEX REPLACE "-.*" "" arch ${triple})
	set(flags)
	if(arch STREQUAL aarch64)
		set(flags -mno-outline-atomics) # their helpers are in a compiler's library
	endif()
	set(objects)
	foreach(source ${embed_sources})
		get_filename_component(name ${source} NAME_WE)
		set(bc ${generated}/${name}_${arch}.bc)
		add_custom_command(OUTPUT ${bc}
			COMMAND ${ML_CLANG} --target=${triple} -std=c11 -O2 -ffreestanding -fPIC -fno-stack-protector
				${flags} -ffp-contract=off -fvisibility=hidden -I${CMAKE_CURRENT_SOURCE_DIR}/include
				-Wall -Wextra -emit-llvm -c ${source} -o ${bc}
			DEPENDS ${source} ${embed_headers} VERBATIM)
		set(embedded ${generated}/embedded_${name}_${arch}.c)
		add_custom_command(OUTPUT ${embedded}
			COMMAND ${CMAKE_COMMAND} -DIN=${bc} -DOUT=${embedded} -DNAME=ml_embedded_${name}_${arch}
				-P ${CMAKE_CURRENT_SOURCE_DIR}/cmake/bytes_to_c.cmake
			DEPENDS ${bc} cmake/bytes_to_c.cmake VERBATIM)
		list(APPEND ML_EMBEDDED_C ${embedded})
	endforeach()
endforeach()
