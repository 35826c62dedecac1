# The engine's data files travel inside it, so that it needs no installation folder.
set(resource_root ${PROJECT_SOURCE_DIR}/resources)
file(GLOB resource_files CONFIGURE_DEPENDS RELATIVE ${resource_root}
  ${resource_root}/patterns/*.json ${resource_root}/presets/*.json ${resource_root}/hardware/*.json
  ${resource_root}/runtimes/*.json ${resource_root}/fonts/*.json)
list(TRANSFORM resource_files PREPEND ${resource_root}/ OUTPUT_VARIABLE resource_paths)
string(REPLACE ";" "," resource_list "${resource_files}")
set(resource_code ${CMAKE_CURRENT_BINARY_DIR}/embedded_resources.cpp)
add_custom_command(OUTPUT ${resource_code}
  COMMAND ${CMAKE_COMMAND} -DROOT=${resource_root} "-DFILES=${resource_list}" -DOUT=${resource_code}
          -P ${CMAKE_CURRENT_LIST_DIR}/embed.cmake
  DEPENDS ${resource_paths} ${CMAKE_CURRENT_LIST_DIR}/embed.cmake VERBATIM)
target_sources(triptych_engine PRIVATE ${resource_code})
