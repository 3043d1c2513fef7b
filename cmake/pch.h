// Precompiled for every source of the library and its tests: ATen costs 9 s a file without it and 1 s with it.
#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>
