# So that others can build on the engine: find_package(triptych-engine), link triptych::engine.
include(CMakePackageConfigHelpers)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/triptych-engine)
install(TARGETS triptych_engine EXPORT triptych-engine-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/triptych FILES_MATCHING PATTERN "*.h")
install(EXPORT triptych-engine-targets NAMESPACE triptych:: DESTINATION ${package_folder})
configure_package_config_file(engine-config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/triptych-engine-config.cmake
  INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/triptych-engine-config-version.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/triptych-engine-config.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/triptych-engine-config-version.cmake DESTINATION ${package_folder})
