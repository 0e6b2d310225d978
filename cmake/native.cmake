# What the library links: Debian's packages, and the pinned crates from the cache that scripts/native.sh fills.
find_package(Threads REQUIRED)
execute_process(COMMAND ${CMAKE_SOURCE_DIR}/scripts/native.sh OUTPUT_VARIABLE CAL_NATIVE_DIR
                OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)

add_library(native STATIC IMPORTED)
set_target_properties(native PROPERTIES IMPORTED_LOCATION ${CAL_NATIVE_DIR}/lib/libcalimero_native.a)
target_include_directories(native SYSTEM INTERFACE ${CAL_NATIVE_DIR}/include)
target_link_libraries(native INTERFACE crypto m dl Threads::Threads)

# llhttp comes as C source in Debian's node-llhttp.
add_library(llhttp STATIC /usr/share/llhttp/api.c /usr/share/llhttp/http.c /usr/share/llhttp/llhttp.c)
target_include_directories(llhttp SYSTEM PUBLIC /usr/share/include/llhttp)
target_compile_options(llhttp PRIVATE -w)
