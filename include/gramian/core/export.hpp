// Visibility of the library's symbols. The only macro header users see; it changes no type and no layout.
#pragma once

#if defined(_WIN32)
#define GRAMIAN_EXPORT
#else
#define GRAMIAN_EXPORT __attribute__((visibility("default")))
#endif
