//! libFuzzer's way into [`quipu_fuzz::peer`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    quipu_fuzz::peer(data);
});
