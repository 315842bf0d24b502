# What `cmake --install` puts where, with pkg-config and CMake package files.
include(CMakePackageConfigHelpers)
install(TARGETS mlopt mlopt-rt EXPORT mloptTargets)
# ops.def is a link in the tree, to stand beside the other lists.
install(DIRECTORY include/mlopt DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} PATTERN ops.def EXCLUDE)
install(FILES ir/ops.def DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/mlopt)
install(EXPORT mloptTargets NAMESPACE mlopt:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/mlopt)
configure_package_config_file(cmake/mloptConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/mloptConfig.cmake
	INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/mlopt)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/mloptConfigVersion.cmake
	COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/mloptConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/mloptConfigVersion.cmake
	DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/mlopt)
# An installed tree can be moved: paths are relative to the package file.
file(RELATIVE_PATH ML_PC_TO_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
set_target_properties(mlopt PROPERTIES INSTALL_RPATH "$ORIGIN")
foreach(lib mlopt mlopt-rt)
	set(ML_PC_REQUIRES)
	if(lib STREQUAL mlopt)
		set(ML_PC_REQUIRES mlopt-rt)
	endif()
	set(ML_PC_NAME ${lib})
	configure_file(cmake/mlopt.pc.in ${CMAKE_CURRENT_BINARY_DIR}/${lib}.pc @ONLY)
	install(FILES ${CMAKE_CURRENT_BINARY_DIR}/${lib}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
