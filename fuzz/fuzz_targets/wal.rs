//! libFuzzer's way into [`quipu_fuzz::wal`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    quipu_fuzz::wal(data);
});
