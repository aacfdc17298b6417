//! libFuzzer's way into [`quipu_fuzz::controller_message`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    quipu_fuzz::controller_message(data);
});
