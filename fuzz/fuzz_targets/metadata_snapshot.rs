//! libFuzzer's way into [`quipu_fuzz::metadata_snapshot`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    quipu_fuzz::metadata_snapshot(data);
});
