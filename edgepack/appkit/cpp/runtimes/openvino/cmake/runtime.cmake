# OpenVINO 2023.1 or newer: its archives and system packages, or Python's wheel.
#   -DOpenVINO_DIR=folder with OpenVINOConfig.cmake (in the wheel: openvino/cmake)

find_package(OpenVINO REQUIRED COMPONENTS Runtime)

add_library(model_runtime INTERFACE)
target_link_libraries(model_runtime INTERFACE openvino::runtime::c)
