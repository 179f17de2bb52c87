//! What becomes of memory that the program frees.

/// Keeps it in the process, up to 64 MiB a heap, where the C library is glibc, which otherwise returns it to the system above some hundred
/// kilobytes. A step frees as many megabytes as the next one needs, and each of their pages would be taken from the system again, cleared,
/// at about a microsecond: more than half of the host's time of a recommender's training step on CUDA (kernels/NOTES.md). For CUDA alone: on the
/// CPU labelling was 2 to 4 % slower with it. Left as it is where the environment says how glibc should do.
pub fn keep() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if SETTINGS.iter().all(|name| std::env::var_os(name).is_none()) {
        // SAFETY: it may be called at any time, and no value is unsafe; a refusal changes nothing.
        unsafe {
            mallopt(M_MMAP_THRESHOLD, LARGEST);
            mallopt(M_TRIM_THRESHOLD, KEPT);
        }
    }
}

/// Variables that glibc reads.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const SETTINGS: [&str; 3] = ["GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"];
/// Bytes that may wait at the end of each of its heaps.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: std::ffi::c_int = 64 << 20;
/// What is larger is the system's own: it goes back when it is freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGEST: std::ffi::c_int = 4 << 20;

// As in malloc.h.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const M_TRIM_THRESHOLD: std::ffi::c_int = -1;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const M_MMAP_THRESHOLD: std::ffi::c_int = -3;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
unsafe extern "C" {
    fn mallopt(parameter: std::ffi::c_int, value: std::ffi::c_int) -> std::ffi::c_int;
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    /// Pages that this thread has taken from the system.
    fn faults() -> u64 {
        let told = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // Behind the name, which may hold spaces, the eighth.
        told.rsplit_once(')').unwrap().1.split_whitespace().nth(7).unwrap().parse().unwrap()
    }

    #[test]
    fn memory_that_is_freed_again_and_again_is_taken_from_the_system_once() {
        super::keep();
        let step = || drop([1u8; 5].map(|byte| vec![byte; 1 << 20]));
        step();
        let before = faults();
        (0..20).for_each(|_| step());
        let taken = faults() - before;
        assert!(taken < 5 * 256, "{taken} pages in 20 steps of 1280");
    }
}
