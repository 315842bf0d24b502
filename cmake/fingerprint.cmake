# Writes a header with a hash of everything that decides what code a specification becomes:
# cmake -DSOURCE=folder -DOUT=file.h -P fingerprint.cmake
file(GLOB files ${SOURCE}/codegen/* ${SOURCE}/ir/* ${SOURCE}/ir/ops/* ${SOURCE}/runtime/abi.h)
set(all "")
foreach(file ${files})
	if(NOT IS_DIRECTORY ${file})
		file(SHA256 ${file} hash)
		string(APPEND all ${hash})
	endif()
endforeach()
string(SHA256 hash "${all}")
file(WRITE ${OUT} "/* Of the sources of the code generator. */\n#define ML_CODEGEN_FINGERPRINT \"${hash}\"\n")
