# ONNX Runtime: its release packages (onnxruntime-linux-x64-….tgz and their like), a system's package, or the library in Python's wheel.
#   -DONNXRUNTIME_ROOT=folder of an unpacked release     or     -DONNXRUNTIME_LIBRARY=path of the library

if(NOT ONNXRUNTIME_LIBRARY)
    find_library(ONNXRUNTIME_LIBRARY onnxruntime HINTS ${ONNXRUNTIME_ROOT} PATH_SUFFIXES lib)
endif()
if(NOT ONNXRUNTIME_LIBRARY)
    message(FATAL_ERROR "ONNX Runtime is not found: give -DONNXRUNTIME_ROOT or -DONNXRUNTIME_LIBRARY")
endif()
# Its own header where there is one, else the few declarations in third_party/.
find_path(ONNXRUNTIME_INCLUDE onnxruntime_c_api.h HINTS ${ONNXRUNTIME_ROOT} PATH_SUFFIXES include include/onnxruntime
    PATHS ${PROJECT_SOURCE_DIR}/third_party)

# A wheel has the library under its full version only, and the loader looks for its soname.
if(ONNXRUNTIME_LIBRARY MATCHES "libonnxruntime\\.so\\.([0-9]+)\\.[0-9.]+$")
    file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/runtime)
    file(CREATE_LINK ${ONNXRUNTIME_LIBRARY} ${CMAKE_BINARY_DIR}/runtime/libonnxruntime.so.${CMAKE_MATCH_1} SYMBOLIC)
    set(ONNXRUNTIME_LINKED ${CMAKE_BINARY_DIR}/runtime/libonnxruntime.so.${CMAKE_MATCH_1})
else()
    set(ONNXRUNTIME_LINKED ${ONNXRUNTIME_LIBRARY})
endif()

add_library(model_runtime INTERFACE)
target_include_directories(model_runtime INTERFACE ${ONNXRUNTIME_INCLUDE})
target_link_libraries(model_runtime INTERFACE ${ONNXRUNTIME_LINKED})
