//! Where a store lies: file systems that are shared over a network need care.

use std::path::Path;

/// The magic numbers of file systems that other machines may write to, from `statfs(2)` and the kernels' own headers.
const ON_NETWORKS: [u32; 12] = [
    0x6969,      // NFS
    0x517b,      // SMB
    0xfe53_4d42, // SMB2
    0xff53_4d42, // CIFS
    0x0bd0_0bd0, // Lustre
    0x4750_4653, // GPFS
    0x1983_0326, // BeeGFS
    0x00c3_6400, // Ceph
    0x5346_414f, // AFS
    0x0102_1997, // 9p
    0x6573_5546, // FUSE: sshfs and many others
    0x7461_636f, // OCFS2
];

/// Whether the file system of a file is shared over a network. `CW_STORE_NETWORK=1` says so where it cannot be seen.
#[cfg(target_os = "linux")]
pub(super) fn is_on_network(path: &Path) -> bool {
    if std::env::var_os("CW_STORE_NETWORK").is_some_and(|value| value == "1") {
        return true;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the kernel's number has 32 bits"
    )]
    let magic = |stat: rustix::fs::StatFs| stat.f_type as u32;
    rustix::fs::statfs(path).is_ok_and(|stat| ON_NETWORKS.contains(&magic(stat)))
}

/// Whether the file system of a file is shared over a network, as `CW_STORE_NETWORK=1` says.
#[cfg(not(target_os = "linux"))]
pub(super) fn is_on_network(_: &Path) -> bool {
    std::env::var_os("CW_STORE_NETWORK").is_some_and(|value| value == "1")
}
