// GRAMIAN_TESTS_FORK: whether tests may fork. The thread sanitizer does not follow threads into a forked child.
#pragma once

#if defined(__SANITIZE_THREAD__)
#define GRAMIAN_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define GRAMIAN_TSAN 1
#endif
#endif

#if !defined(_WIN32) && !defined(GRAMIAN_TSAN)
#define GRAMIAN_TESTS_FORK 1
#endif
