# Generated sources: the ONNX schema for protobuf-c, and the embedded runtime as bitcode and what
# artefacts are linked with, once per target triple, so that any host compiles for any listed target.
set(generated ${CMAKE_CURRENT_BINARY_DIR}/generated)
file(MAKE_DIRECTORY ${generated})

set(ML_ONNX_PROTO_C ${generated}/onnx.pb-c.c)
add_custom_command(OUTPUT ${generated}/onnx.pb-c.c ${generated}/onnx.pb-c.h
	COMMAND ${PROTOC_C} --proto_path=${CMAKE_CURRENT_SOURCE_DIR}/frontend --c_out=${generated} onnx.proto
	DEPENDS frontend/onnx.proto VERBATIM)

# A file's bytes as the array ml_embedded_NAME.
function(embed_file name file)
	add_custom_command(OUTPUT ${generated}/embedded_${name}.c
		COMMAND ${CMAKE_COMMAND} -DIN=${file} -DOUT=${generated}/embedded_${name}.c -DNAME=ml_embedded_${name}
			-P ${CMAKE_CURRENT_SOURCE_DIR}/cmake/bytes_to_c.cmake
		DEPENDS ${file} cmake/bytes_to_c.cmake VERBATIM)
	set(ML_EMBEDDED_C ${ML_EMBEDDED_C} ${generated}/embedded_${name}.c PARENT_SCOPE)
endfunction()

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
	foreach(source ${embed_sources})
		get_filename_component(name ${source} NAME_WE)
		set(bc ${generated}/${name}_${arch}.bc)
		add_custom_command(OUTPUT ${bc}
			COMMAND ${ML_CLANG} --target=${triple} -std=c11 -O2 -ffreestanding -fPIC -fno-stack-protector
				${flags} -ffp-contract=off -fvisibility=hidden -I${CMAKE_CURRENT_SOURCE_DIR}/include
				-Wall -Wextra -emit-llvm -c ${source} -o ${bc}
			DEPENDS ${source} ${embed_headers} VERBATIM)
		embed_file(${name}_${arch} ${bc})
	endforeach()
	set(stub ${generated}/libc_${arch}.so)
	add_custom_command(OUTPUT ${stub}
		COMMAND ${ML_CLANG} --target=${triple} -ffreestanding -fPIC -shared -nostdlib -fuse-ld=lld
			-Wl,-soname,libc.so.6,--build-id=none -Wall -Wextra runtime/stub/libc.c -o ${stub}
		WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} DEPENDS runtime/stub/libc.c VERBATIM)
	embed_file(libc_${arch} ${stub})
endforeach()
