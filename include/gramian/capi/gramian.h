/* The C interface: exact class-incremental learning for hosts without C++ or without exceptions.
 *
 * Results: functions that can fail return GRAMIAN_OK (0) or a positive gramian_result and leave a text in
 * gramian_last_error(). A call that fails changes nothing but that text. No C++ exception leaves a function. A null
 * pointer where one is not allowed is GRAMIAN_ERROR_INVALID.
 * Ownership: what a caller passes is borrowed for the call. What gramian_classifier_create and _load give is the
 * caller's until gramian_classifier_free.
 * Threads: every function may be called from any thread. Calls on one classifier wait for each other; different
 * classifiers run side by side. gramian_classifier_free must be the last call on its classifier.
 * Structures that may grow begin with their size, set by the caller; fields beyond it have their defaults. A size
 * beyond what this library knows is GRAMIAN_ERROR_UNSUPPORTED.
 */
#ifndef GRAMIAN_CAPI_GRAMIAN_H
#define GRAMIAN_CAPI_GRAMIAN_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define GRAMIAN_API
#else
#define GRAMIAN_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum gramian_result {
  GRAMIAN_OK = 0,
  GRAMIAN_ERROR_INVALID = 1,    /* a wrong value or shape, NaN or infinity in the rows */
  GRAMIAN_ERROR_DTYPE = 2,      /* labels or elements of a type that does not fit */
  GRAMIAN_ERROR_NOT_FITTED = 3, /* the model has seen no rows */
  GRAMIAN_ERROR_NUMERICAL = 4,  /* ridge = 0 without full rank, or an iteration that did not converge */
  GRAMIAN_ERROR_MEMORY = 5,
  GRAMIAN_ERROR_UNSUPPORTED = 6, /* not in this build, or training a model that was saved as weights only */
  GRAMIAN_ERROR_BACKEND = 7,     /* the device or its driver failed */
  GRAMIAN_ERROR_FILE = 8,        /* the file cannot be read or written, or is no model */
  GRAMIAN_ERROR_CANCELLED = 9,   /* the cancel hook said so */
  GRAMIAN_ERROR_INTERNAL = 10    /* a bug of the library */
} gramian_result;

/* Element types of rows. */
typedef enum gramian_element {
  GRAMIAN_FLOAT32 = 0,
  GRAMIAN_FLOAT64 = 1,
  GRAMIAN_FLOAT16 = 2,
  GRAMIAN_UINT8 = 3,
  GRAMIAN_INT16 = 4,
  GRAMIAN_BOOLEAN = 5, /* one byte each */
  GRAMIAN_INT32 = 6,
  GRAMIAN_INT64 = 7
} gramian_element;

/* Random feature maps (features.hpp): z = activation(scale * x B + b) with B drawn from the seed. */
typedef enum gramian_map_kind {
  GRAMIAN_MAP_NONE = 0, /* the rows themselves are the features */
  GRAMIAN_MAP_GAUSSIAN = 1,
  GRAMIAN_MAP_RADEMACHER = 2,
  GRAMIAN_MAP_HADAMARD = 3
} gramian_map_kind;

typedef enum gramian_map_activation {
  GRAMIAN_MAP_IDENTITY = 0,
  GRAMIAN_MAP_RELU = 1,
  GRAMIAN_MAP_TANH = 2,
  GRAMIAN_MAP_SIGMOID = 3,
  GRAMIAN_MAP_COS = 4,
  GRAMIAN_MAP_SIGN = 5
} gramian_map_activation;

/* How a classifier is made. Fill it with gramian_classifier_options_init, then change what should differ. */
typedef struct gramian_classifier_options {
  size_t struct_size;       /* sizeof(gramian_classifier_options), set by _options_init */
  double ridge;             /* >= 0; minimises |Y - X W|^2 + ridge |W|^2. Default 1 */
  int32_t fit_intercept;    /* 0 or 1. Default 1; the intercept is not penalised */
  int32_t standardize;      /* 0 or 1. Default 0; 1 penalises as if every feature had unit variance */
  int32_t float32_products; /* 0 or 1. Default 0; 1 is twice as fast, forgetting is then exact to float rounding only */
  int32_t cuda_device;      /* -1 for the CPU (default), else the index of a CUDA device */
  int32_t threads;          /* 0 (default) for GRAMIAN_NUM_THREADS, OMP_NUM_THREADS or all processors */
  int32_t map_kind;         /* gramian_map_kind. Default GRAMIAN_MAP_NONE; the map_ fields below are then unused */
  int32_t map_activation;   /* gramian_map_activation. Default GRAMIAN_MAP_RELU */
  int32_t reserved;         /* 0 */
  int64_t map_features;     /* width of the features, >= 1. Default 1024 */
  double map_scale;         /* 0 (default) means 1 / sqrt(n_inputs) */
  double map_bias;          /* standard deviation of b. Default 0 */
  uint64_t map_seed;        /* same seed, same map, on every machine. Default 0 */
} gramian_classifier_options;

/* Rows in host memory, borrowed. */
typedef struct gramian_rows {
  size_t struct_size; /* sizeof(gramian_rows) */
  const void* data;   /* element (r, c) is at data + r * row_stride + c * the size of an element */
  int64_t n_rows;     /* >= 0 */
  int64_t n_cols;     /* the classifier's number of inputs */
  int64_t row_stride; /* bytes from a row to the next; 0 means that rows lie end to end */
  int32_t element;    /* gramian_element */
  int32_t reserved;   /* 0 */
} gramian_rows;

typedef struct gramian_classifier gramian_classifier;

/* Returning nonzero cancels the call in progress. Called on the thread that made the call. */
typedef int (*gramian_cancel_hook)(void* user);

/* "1.2.3"; a constant of the library. */
GRAMIAN_API const char* gramian_version(void);

/* What the last failed call of this thread complained about (UTF-8), "" before any failure. Valid until the thread's
 * next failing call; never null. Texts beyond 1023 bytes are cut. */
GRAMIAN_API const char* gramian_last_error(void);

/* Fills the first struct_size bytes of `options` with the defaults; pass sizeof(gramian_classifier_options). */
GRAMIAN_API int gramian_classifier_options_init(gramian_classifier_options* options, size_t struct_size);

/* A classifier without classes for rows of n_inputs >= 1 elements. options: null for the defaults.
 * Memory: about 4 d^2 bytes for d features once rows arrive, whatever their number. */
GRAMIAN_API int gramian_classifier_create(int64_t n_inputs, const gramian_classifier_options* options,
                                          gramian_classifier** out);

/* Gives the classifier back. Null is fine. */
GRAMIAN_API void gramian_classifier_free(gramian_classifier* classifier);

/* hook: polled by long calls on this classifier, or null for none; it must not call the library on this classifier. */
GRAMIAN_API int gramian_classifier_set_cancel_hook(gramian_classifier* classifier, gramian_cancel_hook hook,
                                                   void* user);

/* Adds rows. labels: rows->n_rows integers; one never seen makes a new class. weights: rows->n_rows values >= 0, or
 * null for 1 each; rows of weight 0 are as if they were not there. */
GRAMIAN_API int gramian_classifier_partial_fit(gramian_classifier* classifier, const gramian_rows* rows,
                                               const int64_t* labels, const double* weights);

/* Takes rows out again, exactly: labels and weights are those of the adding call. More rows than a class has, or a
 * label never seen, is GRAMIAN_ERROR_INVALID; that the rows themselves were added cannot be checked. A class that loses
 * its last row is a class no longer. */
GRAMIAN_API int gramian_classifier_forget(gramian_classifier* classifier, const gramian_rows* rows,
                                          const int64_t* labels, const double* weights);

/* Makes `classifier` the model of its own rows and those of `other`, which keeps what it has. Both need the same inputs
 * and the same map. */
GRAMIAN_API int gramian_classifier_merge(gramian_classifier* classifier, gramian_classifier* other);

/* Elements per row. */
GRAMIAN_API int gramian_classifier_n_inputs(gramian_classifier* classifier, int64_t* out);

/* Classes so far; may be 0. */
GRAMIAN_API int gramian_classifier_n_classes(gramian_classifier* classifier, int64_t* out);

/* The classes' labels, rising, into `labels`, which holds `capacity` >= n_classes values. GRAMIAN_ERROR_DTYPE where the
 * model has labels that are not integers (trained elsewhere): see _class_text. */
GRAMIAN_API int gramian_classifier_classes(gramian_classifier* classifier, int64_t* labels, int64_t capacity);

/* Rows of each class, in the order of _classes. */
GRAMIAN_API int gramian_classifier_class_counts(gramian_classifier* classifier, int64_t* counts, int64_t capacity);

/* Label of the class at `place` as UTF-8 text with a closing zero, whatever its kind, into `text` of `capacity` bytes.
 * needed: the bytes the text takes with its zero, also where it does not fit (GRAMIAN_ERROR_INVALID); may be null.
 * text may be null where capacity is 0. */
GRAMIAN_API int gramian_classifier_class_text(gramian_classifier* classifier, int64_t place, char* text,
                                              size_t capacity, size_t* needed);

/* The label of the best class for each row into `labels` (rows->n_rows values). Ties go to the first class. The first
 * prediction after a change solves for the weights: d^3 / 3 flops for d features. */
GRAMIAN_API int gramian_classifier_predict(gramian_classifier* classifier, const gramian_rows* rows, int64_t* labels);

/* The same as places in _classes, for labels of any kind. */
GRAMIAN_API int gramian_classifier_predict_places(gramian_classifier* classifier, const gramian_rows* rows,
                                                  int64_t* places);

/* Scores into `scores`: element (r, c) at scores[r * n_classes + c]; capacity: the doubles that `scores` holds. The
 * call takes memory for as many until none of them can fail. */
GRAMIAN_API int gramian_classifier_decision_function(gramian_classifier* classifier, const gramian_rows* rows,
                                                     double* scores, int64_t capacity);

/* Writes one file; `path` holds the old file or the new one, never a part. weights_only: 0 keeps the sums, so that
 * training can go on; 1 keeps what prediction needs. */
GRAMIAN_API int gramian_classifier_save(gramian_classifier* classifier, const char* path, int32_t weights_only);

/* Reads what _save wrote, or the Python and C++ interfaces of an AnalyticClassifier. Of `options` (null for the
 * defaults) only cuda_device and threads count. */
GRAMIAN_API int gramian_classifier_load(const char* path, const gramian_classifier_options* options,
                                        gramian_classifier** out);

#ifdef __cplusplus
}
#endif

#endif /* GRAMIAN_CAPI_GRAMIAN_H */
