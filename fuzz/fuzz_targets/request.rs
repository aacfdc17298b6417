//! libFuzzer's way into [`quipu_fuzz::request`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    quipu_fuzz::request(data);
});
