# Writes a header with a hash of sources, under which what they have made is kept:
# cmake -DSOURCE=folder -DPATTERNS=a/*,b/* -DNAME=ML_X_FINGERPRINT -DOUT=file.h -P fingerprint.cmake
string(REPLACE "," ";" patterns "${PATTERNS}")
list(TRANSFORM patterns PREPEND ${SOURCE}/)
file(GLOB files ${patterns})
set(all "")
foreach(file ${files})
	if(NOT IS_DIRECTORY ${file})
		file(SHA256 ${file} hash)
		string(APPEND all ${hash})
	endif()
endforeach()
string(SHA256 hash "${all}")
file(WRITE ${OUT} "/* A hash of sources. */\n#define ${NAME} \"${hash}\"\n")
