#pragma once

/// Marks what the shared library shows to others; everything else is hidden.
#define ORRERY_API __attribute__((visibility("default")))
