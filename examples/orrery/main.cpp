#include <cstdio>

int main() { std::puts("orrery"); }
