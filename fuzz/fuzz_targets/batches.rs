//! libFuzzer's way into [`quipu_fuzz::batches`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    quipu_fuzz::batches(data);
});
