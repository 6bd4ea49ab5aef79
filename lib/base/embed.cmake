# cmake -DNAMES=a;b -DFILES=x;y -DOUTPUT=texts.cc -DNAMESPACE=n -P embed.cmake: a source file that defines std::string_views of
# the files' texts, for programs that need them without their files.
set(source "#include <string_view>\n\nnamespace ${NAMESPACE} {\n")
foreach(name file IN ZIP_LISTS NAMES FILES)
  file(READ ${file} text)
  string(APPEND source "extern const std::string_view ${name};\nconst std::string_view ${name} = R\"embedded(${text})embedded\";\n")
endforeach()
file(WRITE ${OUTPUT} "${source}}  // namespace ${NAMESPACE}\n")
