// What a program of somebody else does with the library: call it, and catch its errors by type.
#include <orrery/error.h>
#include <orrery/log.h>
#include <orrery/progress.h>

#include <cstdio>

int main() {
  orrery::CancellationToken token;
  token.cancel();
  try {
    token.check("consumer");
  } catch (const orrery::Error& error) {
    std::printf("caught %s\n", orrery::to_string(error.kind()));
    return error.kind() == orrery::ErrorKind::kCancelled ? 0 : 1;
  }
  return 1;
}
