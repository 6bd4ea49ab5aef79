// The precompiled header of ATen is built with this (empty) source; see CMakeLists.txt.
