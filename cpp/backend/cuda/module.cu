// The module's face: the table, the device's life, error texts and the counters that prove where work was done.
#include <stdio.h>

#include <atomic>
#include <new>

#include "cuda_common.h"

#define GRAMIAN_CUDA_EXPORT extern "C" __attribute__((visibility("default")))

namespace gramian_cuda {
namespace {

thread_local char last_error[512] = "";
std::atomic<uint64_t> allocation_count{0};
std::atomic<uint64_t> work_count{0};

const char* solver_text(cusolverStatus_t status) {
  switch (status) {
    case CUSOLVER_STATUS_NOT_INITIALIZED:
      return "not initialised";
    case CUSOLVER_STATUS_ALLOC_FAILED:
      return "allocation failed";
    case CUSOLVER_STATUS_INVALID_VALUE:
      return "invalid value";
    case CUSOLVER_STATUS_ARCH_MISMATCH:
      return "device architecture not supported";
    case CUSOLVER_STATUS_MAPPING_ERROR:
      return "mapping error";
    case CUSOLVER_STATUS_EXECUTION_FAILED:
      return "execution failed";
    case CUSOLVER_STATUS_INTERNAL_ERROR:
      return "internal error";
    case CUSOLVER_STATUS_NOT_SUPPORTED:
      return "not supported";
    default:
      return "unknown error";
  }
}

/* Answers whether this module carries code for a device: its attributes can be read only then. */
__global__ void probe_kernel() {}

int count_devices(int* count) {
  int driver = 0;
  // Without a driver the runtime complains about an old one; the driver version 0 tells the two apart.
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    cudaGetLastError();
    return failed(GRAMIAN_STATUS_BACKEND, "open", "no CUDA device: no NVIDIA driver is installed");
  }
  const cudaError_t status = cudaGetDeviceCount(count);
  if (status == cudaSuccess && *count > 0) return kOk;
  cudaGetLastError();
  char text[384];
  snprintf(text, sizeof text, "no CUDA device: %s (driver supports CUDA %d.%d, this module needs %d.%d)",
           status == cudaSuccess ? "the driver lists none" : cudaGetErrorString(status), driver / 1000,
           driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
  return failed(GRAMIAN_STATUS_BACKEND, "open", text);
}

int set_up(State& state) {
  GRAMIAN_CUDA_TRY(check(cudaSetDevice(state.device), "cudaSetDevice"));
  cudaFuncAttributes attributes;
  GRAMIAN_CUDA_TRY(check(cudaFuncGetAttributes(&attributes, probe_kernel), "looking for code for this device"));
  // A stream of our own that does not wait for the legacy default stream of other code in the process.
  GRAMIAN_CUDA_TRY(check(cudaStreamCreateWithFlags(&state.stream, cudaStreamNonBlocking), "cudaStreamCreate"));
  GRAMIAN_CUDA_TRY(check(cublasCreate(&state.blas), "cublasCreate"));
  GRAMIAN_CUDA_TRY(check(cublasSetStream(state.blas, state.stream), "cublasSetStream"));
  // Default math keeps the full mantissa (no TF32, no emulation), atomics off keeps results repeatable.
  GRAMIAN_CUDA_TRY(check(cublasSetMathMode(state.blas, CUBLAS_DEFAULT_MATH), "cublasSetMathMode"));
  GRAMIAN_CUDA_TRY(check(cublasSetAtomicsMode(state.blas, CUBLAS_ATOMICS_NOT_ALLOWED), "cublasSetAtomicsMode"));
  GRAMIAN_CUDA_TRY(check(cublasSetPointerMode(state.blas, CUBLAS_POINTER_MODE_HOST), "cublasSetPointerMode"));
  GRAMIAN_CUDA_TRY(check(cusolverDnCreate(&state.solver), "cusolverDnCreate"));
  GRAMIAN_CUDA_TRY(check(cusolverDnSetStream(state.solver, state.stream), "cusolverDnSetStream"));
  GRAMIAN_CUDA_TRY(check(cusolverDnCreateParams(&state.solver_params), "cusolverDnCreateParams"));
  GRAMIAN_CUDA_TRY(check(cudaMalloc(&state.answer, sizeof *state.answer), "cudaMalloc"));
  return check(cudaMalloc(&state.solver_info, sizeof *state.solver_info), "cudaMalloc");
}

void tear_down(State& state) {
  if (state.stream != nullptr) cudaStreamSynchronize(state.stream);
  if (state.solver_params != nullptr) cusolverDnDestroyParams(state.solver_params);
  if (state.solver != nullptr) cusolverDnDestroy(state.solver);
  if (state.blas != nullptr) cublasDestroy(state.blas);
  cudaFree(state.workspace);
  cudaFree(state.solver_info);
  cudaFree(state.answer);
  if (state.stream != nullptr) cudaStreamDestroy(state.stream);
  cudaGetLastError();
}

const gramian_op_table table = {GRAMIAN_OP_API_VERSION,
                                sizeof(gramian_op_table),
                                "cuda",
                                GRAMIAN_DEVICE_MEMORY,
                                /* tile */ 0,
                                open,
                                close,
                                error_text,
                                alloc,
                                free,
                                upload,
                                download,
                                sync,
                                load_rows,
                                load_csr,
                                axpby,
                                add_diagonal,
                                symmetrize,
                                scale_columns,
                                scale_rows,
                                gemm,
                                gram,
                                csr_gemm,
                                normal_sweep,
                                rotate_rows,
                                potrf,
                                trsm,
                                syevd,
                                geqrf,
                                ormqr,
                                gesvd,
                                map,
                                rbf,
                                row_sumsq,
                                column_sums,
                                class_sums,
                                fill_random,
                                fill_signs,
                                fill_uniform,
                                fwht,
                                fwht_columns,
                                hadamard_rows,
                                softmax,
                                softmax_columns,
                                exp_sums,
                                exp_write,
                                fill_row_hash,
                                sparse_sketch,
                                sparse_sketch_csr,
                                gather_columns,
                                circular_convolve};

}  // namespace

void count_allocation() {
  allocation_count.fetch_add(1, std::memory_order_relaxed);
}
void count_work() {
  work_count.fetch_add(1, std::memory_order_relaxed);
}

int failed(int status, const char* what, const char* text) {
  snprintf(last_error, sizeof last_error, "cuda: %s: %s", what, text);
  return status;
}

int invalid(const char* what) {
  return failed(GRAMIAN_STATUS_INVALID, "invalid argument", what);
}

int check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return kOk;
  cudaGetLastError();  // a failure that is not sticky must not be found again by the next launch
  return failed(status == cudaErrorMemoryAllocation ? GRAMIAN_STATUS_NO_MEMORY : GRAMIAN_STATUS_BACKEND, what,
                cudaGetErrorString(status));
}

int check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return kOk;
  return failed(status == CUBLAS_STATUS_ALLOC_FAILED ? GRAMIAN_STATUS_NO_MEMORY : GRAMIAN_STATUS_BACKEND, what,
                cublasGetStatusString(status));
}

int check(cusolverStatus_t status, const char* what) {
  if (status == CUSOLVER_STATUS_SUCCESS) return kOk;
  return failed(status == CUSOLVER_STATUS_ALLOC_FAILED ? GRAMIAN_STATUS_NO_MEMORY : GRAMIAN_STATUS_BACKEND, what,
                solver_text(status));
}

Call::Call(gramian_context* context) {
  if (context == nullptr || context->device_state == nullptr) {
    status_ = invalid("the context has no open device");
    return;
  }
  state_ = static_cast<State*>(context->device_state);
  state_->mutex.lock();
  int current = -1;
  status_ = check(cudaGetDevice(&current), "cudaGetDevice");
  if (status_ != 0 || current == state_->device) return;
  status_ = check(cudaSetDevice(state_->device), "cudaSetDevice");
  if (status_ == 0) previous_device_ = current;
}

Call::~Call() {
  if (state_ == nullptr) return;
  if (previous_device_ >= 0) cudaSetDevice(previous_device_);
  state_->mutex.unlock();
}

int open(int device_index, void** device_state) {
  if (device_state == nullptr) return invalid("device_state is NULL");
  *device_state = nullptr;
  int count = 0;
  GRAMIAN_CUDA_TRY(count_devices(&count));
  if (device_index < 0 || device_index >= count) {
    char text[96];
    snprintf(text, sizeof text, "device %d does not exist; the driver lists %d", device_index, count);
    return failed(GRAMIAN_STATUS_BACKEND, "open", text);
  }
  State* state = new (std::nothrow) State;
  if (state == nullptr) return failed(GRAMIAN_STATUS_NO_MEMORY, "open", "no host memory");
  state->device = device_index;
  int previous = 0;
  const bool has_previous = cudaGetDevice(&previous) == cudaSuccess;
  const int status = set_up(*state);
  if (status == 0) {
    *device_state = state;
  } else {
    tear_down(*state);
    delete state;
  }
  if (has_previous) cudaSetDevice(previous);
  return status;
}

void close(void* device_state) {
  if (device_state == nullptr) return;
  gramian_context context = {device_state};
  {
    Call call(&context);
    if (call.status() == 0) tear_down(call.state());
  }
  delete static_cast<State*>(device_state);
}

const char* error_text(void) {
  return last_error;
}

}  // namespace gramian_cuda

GRAMIAN_CUDA_EXPORT const gramian_op_table* gramian_backend_v1(void) {
  return &gramian_cuda::table;
}

/* Device allocations made, and kernels launched plus vendor routines called, by this process so far. */
GRAMIAN_CUDA_EXPORT void gramian_cuda_counters(uint64_t* allocations, uint64_t* kernels) {
  if (allocations != nullptr) *allocations = gramian_cuda::allocation_count.load(std::memory_order_relaxed);
  if (kernels != nullptr) *kernels = gramian_cuda::work_count.load(std::memory_order_relaxed);
}
