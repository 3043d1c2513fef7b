# Everything foreign the library stands on, each as one target.
include(OrreryLibTorch)
if(ORRERY_LIBTORCH_PROBLEM)
  message(FATAL_ERROR "${ORRERY_LIBTORCH_PROBLEM}")
endif()
message(STATUS "LibTorch ${ORRERY_TORCH_VERSION}: ${ORRERY_TORCH_LIBRARY_DIR}")

find_package(PkgConfig REQUIRED)
pkg_check_modules(FFMPEG REQUIRED IMPORTED_TARGET libavformat libavcodec libavutil libswscale)
pkg_check_modules(SENTENCEPIECE REQUIRED IMPORTED_TARGET sentencepiece)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(HIGHWAY REQUIRED IMPORTED_TARGET libhwy)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CURL REQUIRED)
find_package(ZLIB REQUIRED)
find_package(Threads REQUIRED)

add_library(orrery_private_dependencies INTERFACE)
add_library(orrery::private_dependencies ALIAS orrery_private_dependencies)
target_link_libraries(orrery_private_dependencies INTERFACE
  $<BUILD_INTERFACE:PkgConfig::FFMPEG> $<BUILD_INTERFACE:PkgConfig::PCRE2> $<BUILD_INTERFACE:PkgConfig::UTF8PROC>
  $<BUILD_INTERFACE:PkgConfig::HIGHWAY>
  $<BUILD_INTERFACE:nlohmann_json::nlohmann_json> $<BUILD_INTERFACE:CURL::libcurl> $<BUILD_INTERFACE:ZLIB::ZLIB>
  $<BUILD_INTERFACE:Threads::Threads>)
