# net_proto: what protoc-c makes of src/net/proto/*.proto; headers as "libp2p.pb-c.h". Generated code is not held to our warnings.
file(GLOB protos CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/net/proto/*.proto)
set(proto_dir ${CMAKE_BINARY_DIR}/proto)
file(MAKE_DIRECTORY ${proto_dir})
set(proto_sources "")
foreach(proto ${protos})
  get_filename_component(stem ${proto} NAME_WE)
  add_custom_command(OUTPUT ${proto_dir}/${stem}.pb-c.c ${proto_dir}/${stem}.pb-c.h
                     COMMAND protoc-c --proto_path=${CMAKE_SOURCE_DIR}/src/net/proto --c_out=${proto_dir} ${stem}.proto
                     DEPENDS ${proto} VERBATIM)
  list(APPEND proto_sources ${proto_dir}/${stem}.pb-c.c)
endforeach()
add_library(net_proto STATIC ${proto_sources})
target_include_directories(net_proto SYSTEM PUBLIC ${proto_dir})
target_compile_options(net_proto PRIVATE -w)
target_link_libraries(net_proto PUBLIC protobuf-c)
