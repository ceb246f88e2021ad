# LiteRT 2.3 or newer: libLiteRt from its releases, or the one in Python's wheel (ai_edge_litert/libLiteRt.so).
#   -DLITERT_LIBRARY=path of the library     or     -DLITERT_ROOT=a folder with lib/

if(NOT LITERT_LIBRARY)
    find_library(LITERT_LIBRARY LiteRt HINTS ${LITERT_ROOT} PATH_SUFFIXES lib ai_edge_litert)
endif()
if(NOT LITERT_LIBRARY)
    message(FATAL_ERROR "LiteRT is not found: give -DLITERT_LIBRARY or -DLITERT_ROOT")
endif()

add_library(model_runtime INTERFACE)
target_include_directories(model_runtime INTERFACE ${PROJECT_SOURCE_DIR}/third_party)
target_link_libraries(model_runtime INTERFACE ${LITERT_LIBRARY})
