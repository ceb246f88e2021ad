"""The app kit for C++: a CMake project with a class for the model."""
