# Writes a C++ file that holds the named files as string literals.
#   cmake -DROOT=resources -DFILES=a.json,b.json -DOUT=x.cpp -P embed.cmake
string(REPLACE "," ";" FILES "${FILES}")
if(FILES)
  list(SORT FILES)
endif()
set(code "#include \"support/resources.h\"\n\nnamespace triptych {\n\nconst std::vector<Resource>& resources() {\n    static const std::vector<Resource> all{\n")
foreach(file IN LISTS FILES)
  file(READ "${ROOT}/${file}" content)
  string(APPEND code "        {\"${file}\", R\"~triptych~(${content})~triptych~\"},\n")
endforeach()
string(APPEND code "    };\n    return all;\n}\n\n} // namespace triptych\n")
file(WRITE "${OUT}" "${code}")
