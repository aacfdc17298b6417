//! What kind of disk it is.

/// What kind of disk it is, and how badly it behaves when the power goes.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// Bytes that fit on it, in whole blocks of files' content; `None`: no end.
    pub capacity_bytes: Option<u64>,
    /// Whether files can be opened for direct I/O.
    pub direct: bool,
    /// Whether a power cut may stop inside a sector. Off: a sector holds one of its images, whole.
    pub torn_sectors: bool,
    /// Whether a part of a file that was extended but never written may hold old bytes of the device. Off: zeros.
    pub garbage_tails: bool,
}

impl Default for DiskOptions {
    /// Endless, with direct I/O, and as bad as disks get.
    fn default() -> Self {
        Self { capacity_bytes: None, direct: true, torn_sectors: true, garbage_tails: true }
    }
}
