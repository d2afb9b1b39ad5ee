//! The trip-wire: this binary defines the C functions through which any code on this machine would reach for a
//! clock, chance, a thread, a file or a socket. While a thread runs simulated code such a call fails the run, with
//! the place it came from; at all other times it goes through to the system.
//!
//! Unsafe code is allowed in this file alone, because a symbol of the C library can be replaced in no other
//! way. Each function has the signature that POSIX gives it and passes its arguments on unchanged.
#![allow(unsafe_code)]

use gramme_sim::armed;
use std::backtrace::Backtrace;
use std::ffi::{c_char, c_int, c_long, c_uint, c_void};

/// Does nothing; calling it keeps this module, and so its symbols, in the binary.
pub(crate) fn lay() {}

/// The wire was touched: says by whom, unless nobody is armed. The report itself may open files and read clocks.
fn touched(call: &str) {
    if armed::disarm() {
        armed::report(format!("{call}\n{}", nearest_frames(&Backtrace::force_capture().to_string())));
    }
}

/// The lines of a backtrace that name our own code.
fn nearest_frames(trace: &str) -> String {
    let lines: Vec<&str> = trace.lines().collect();
    let ours = lines.iter().enumerate().filter(|(_, line)| {
        line.contains("gramme_") && !line.contains("tripwire") && !line.contains("executor")
    });
    let mut shown: Vec<String> = Vec::new();
    for (at, line) in ours.take(6) {
        shown.push(line.trim().to_string());
        shown.extend(lines.get(at + 1).map(|place| place.trim().to_string()));
    }
    shown.join("\n")
}

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
}

/// `RTLD_NEXT`: the definition after ours.
const NEXT: *mut c_void = -1isize as *mut c_void;

#[cfg(target_arch = "x86_64")]
mod number {
    use std::ffi::c_long;
    pub(super) const NANOSLEEP: c_long = 35;
    pub(super) const SOCKET: c_long = 41;
    pub(super) const FSYNC: c_long = 74;
    pub(super) const CLOCK_GETTIME: c_long = 228;
    pub(super) const CLOCK_NANOSLEEP: c_long = 230;
    pub(super) const OPENAT: c_long = 257;
    pub(super) const GETRANDOM: c_long = 318;
}

#[cfg(target_arch = "aarch64")]
mod number {
    use std::ffi::c_long;
    pub(super) const OPENAT: c_long = 56;
    pub(super) const FSYNC: c_long = 82;
    pub(super) const NANOSLEEP: c_long = 101;
    pub(super) const CLOCK_GETTIME: c_long = 113;
    pub(super) const CLOCK_NANOSLEEP: c_long = 115;
    pub(super) const SOCKET: c_long = 198;
    pub(super) const GETRANDOM: c_long = 278;
}

/// `AT_FDCWD`: paths begin at the working directory.
const HERE: c_int = -100;

#[unsafe(no_mangle)]
extern "C" fn getrandom(buffer: *mut c_void, len: usize, flags: c_uint) -> isize {
    touched("getrandom");
    // SAFETY: the caller's arguments, as getrandom(2) takes them.
    unsafe { syscall(number::GETRANDOM, buffer, len, flags) as isize }
}

#[unsafe(no_mangle)]
extern "C" fn getentropy(buffer: *mut c_void, len: usize) -> c_int {
    touched("getentropy");
    // SAFETY: the caller's buffer, which getentropy(3) says has `len` bytes.
    let got = unsafe { syscall(number::GETRANDOM, buffer, len, 0 as c_uint) };
    if got == len as c_long { 0 } else { -1 }
}

#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: c_int, time: *mut c_void) -> c_int {
    touched("clock_gettime");
    // SAFETY: the caller's arguments, as clock_gettime(2) takes them.
    unsafe { syscall(number::CLOCK_GETTIME, clock, time) as c_int }
}

#[unsafe(no_mangle)]
extern "C" fn nanosleep(span: *const c_void, left: *mut c_void) -> c_int {
    touched("nanosleep");
    // SAFETY: the caller's arguments, as nanosleep(2) takes them.
    unsafe { syscall(number::NANOSLEEP, span, left) as c_int }
}

#[unsafe(no_mangle)]
extern "C" fn clock_nanosleep(clock: c_int, flags: c_int, span: *const c_void, left: *mut c_void) -> c_int {
    touched("clock_nanosleep");
    // SAFETY: the caller's arguments, as clock_nanosleep(2) takes them; unlike the system call, the function
    // answers with the error's number itself, which the call's result negated is only for -1: close enough for
    // a caller that retries.
    unsafe { -(syscall(number::CLOCK_NANOSLEEP, clock, flags, span, left) as c_int) }
}

#[unsafe(no_mangle)]
extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    touched("open64");
    // SAFETY: the caller's arguments; without O_CREAT the kernel ignores `mode`, whatever the register holds.
    unsafe { syscall(number::OPENAT, HERE, path, flags, mode) as c_int }
}

#[unsafe(no_mangle)]
extern "C" fn fsync(file: c_int) -> c_int {
    touched("fsync");
    // SAFETY: the caller's argument, as fsync(2) takes it.
    unsafe { syscall(number::FSYNC, file) as c_int }
}

#[unsafe(no_mangle)]
extern "C" fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    touched("socket");
    // SAFETY: the caller's arguments, as socket(2) takes them.
    unsafe { syscall(number::SOCKET, domain, kind, protocol) as c_int }
}

type Start = extern "C" fn(*mut c_void) -> *mut c_void;
type Create = unsafe extern "C" fn(*mut c_void, *const c_void, Start, *mut c_void) -> c_int;

#[unsafe(no_mangle)]
extern "C" fn pthread_create(
    thread: *mut c_void,
    attributes: *const c_void,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    touched("pthread_create");
    // SAFETY: the next definition of this symbol is the C library's, which has this signature.
    unsafe {
        let real = dlsym(NEXT, c"pthread_create".as_ptr());
        if real.is_null() {
            return EAGAIN;
        }
        std::mem::transmute::<*mut c_void, Create>(real)(thread, attributes, start, argument)
    }
}

/// What `pthread_create` answers when it cannot.
const EAGAIN: c_int = 11;

#[cfg(test)]
mod tests {
    use gramme_sim::armed;

    fn caught(work: fn()) -> Option<String> {
        armed::while_armed(work);
        armed::take_report()
    }

    #[test]
    #[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "these are what the wire is for")]
    fn whatever_reaches_outside_is_reported_and_what_does_not_is_silent() {
        assert_eq!(caught(|| drop(vec![1, 2, 3])), None);
        let reaching: [(&str, fn()); 5] = [
            ("clock_gettime", || assert!(std::time::Instant::now().elapsed().as_secs() < 3600)),
            ("clock_gettime", || assert!(std::time::SystemTime::now() > std::time::UNIX_EPOCH)),
            ("open64", || drop(std::fs::File::open("/dev/null"))),
            ("socket", || drop(std::net::UdpSocket::bind("127.0.0.1:0"))),
            ("pthread_create", || drop(std::thread::spawn(|| {}).join())),
        ];
        for (call, work) in reaching {
            let report = caught(work).unwrap_or_default();
            assert!(report.starts_with(call), "{call} was not caught: {report:?}");
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "these are what the wire is for")]
    fn the_first_randomly_keyed_map_of_a_thread_is_reported() {
        let report = std::thread::spawn(|| caught(|| drop(std::collections::HashMap::<u8, u8>::new())));
        let report = report.join().expect("it does not panic").unwrap_or_default();
        assert!(report.starts_with("getrandom"), "it was not caught: {report:?}");
    }
}
