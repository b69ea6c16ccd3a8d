use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use elf::abi;

use super::{Node, Version, check, check_against, image::Image, node};

const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

fn glibc(said: &str) -> Option<Version> {
    Version::of_symbols(&format!("GLIBC_{said}"))
}

/// Has every loader.
fn node(machine: &'static str, said: &str) -> Node {
    Node { machine, glibc: glibc(said), exists: |_| true }
}

/// An x86_64 program of a few hundred bytes.
struct Program {
    machine: u16,
    kind: u16,
    loader: Option<&'static str>,
    /// Names and flags.
    needs: &'static [(&'static str, u16)],
}

const PLAIN: Program = Program {
    machine: abi::EM_X86_64,
    kind: abi::ET_DYN,
    loader: Some(LOADER),
    needs: &[("GLIBC_2.9", 0), ("GLIBC_2.38", 0), ("GLIBC_2.4", 0)],
};

impl Program {
    /// Header, program header, the loader's name, versions, their names, section headers: in this order.
    fn bytes(&self) -> Vec<u8> {
        let loader = self.loader.map(|loader| format!("{loader}\0")).unwrap_or_default();
        let (versions, names) = self.versions();
        let versions_at = 64 + 56 + loader.len() as u64;
        let names_at = versions_at + versions.len() as u64;
        let sections_at = names_at + names.len() as u64;
        let mut bytes = self.header(sections_at);
        bytes.extend(segment(
            if loader.is_empty() { abi::PT_NULL } else { abi::PT_INTERP },
            120,
            loader.len() as u64,
        ));
        bytes.extend(loader.as_bytes());
        bytes.extend(&versions);
        bytes.extend(&names);
        bytes.extend(section(abi::SHT_NULL, 0, 0, 0));
        bytes.extend(section(abi::SHT_GNU_VERNEED, versions_at, versions.len() as u64, 2));
        bytes.extend(section(abi::SHT_STRTAB, names_at, names.len() as u64, 0));
        bytes
    }

    fn header(&self, sections_at: u64) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        bytes.extend([self.kind, self.machine, 1, 0].map(u16::to_le_bytes).as_flattened());
        bytes.extend([0, 64, sections_at].map(u64::to_le_bytes).as_flattened());
        bytes.extend([0, 0, 64, 56, 1, 64, 3, 0].map(u16::to_le_bytes).as_flattened());
        bytes
    }

    /// One library and what is needed of it; and the names.
    fn versions(&self) -> (Vec<u8>, Vec<u8>) {
        let mut names = b"\0libc.so.6\0".to_vec();
        let mut bytes = [1, self.needs.len() as u16].map(u16::to_le_bytes).as_flattened().to_vec();
        bytes.extend([1, 16, 0].map(u32::to_le_bytes).as_flattened());
        for (name, flags) in self.needs {
            bytes.extend(u32::to_le_bytes(0));
            bytes.extend([*flags, 0].map(u16::to_le_bytes).as_flattened());
            bytes.extend([names.len() as u32, 16].map(u32::to_le_bytes).as_flattened());
            names.extend(name.as_bytes());
            names.push(0);
        }
        (bytes, names)
    }

    fn check(&self, node: &Node) -> Result<(), String> {
        check_against(&file_of(&self.bytes()), node)
    }
}

fn segment(kind: u32, offset: u64, bytes: u64) -> Vec<u8> {
    let mut segment = [kind, 4].map(u32::to_le_bytes).as_flattened().to_vec();
    segment.extend([offset, 0, 0, bytes, bytes, 1].map(u64::to_le_bytes).as_flattened());
    segment
}

fn section(kind: u32, offset: u64, bytes: u64, names: u32) -> Vec<u8> {
    let mut section = [0, kind].map(u32::to_le_bytes).as_flattened().to_vec();
    section.extend([0, 0, offset, bytes].map(u64::to_le_bytes).as_flattened());
    // One library.
    section.extend([names, 1].map(u32::to_le_bytes).as_flattened());
    section.extend([1, 0].map(u64::to_le_bytes).as_flattened());
    section
}

/// A file that has no name any more.
fn file_of(bytes: &[u8]) -> File {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("cw-elf-fit-{}-{number}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path).expect("a new file");
    fs::remove_file(&path).expect("to remove it");
    file.write_all_at(bytes, 0).expect("to write it");
    file
}

fn this_test() -> File {
    File::open("/proc/self/exe").expect("this test")
}

#[test]
fn this_test_can_run_here() {
    assert_eq!(check(&this_test()), Ok(()));
}

/// Where this test is dynamic and the loader the system's own.
#[test]
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static"), target_pointer_width = "64"))]
fn this_test_needs_a_newer_glibc_than_2_5() {
    let file = this_test();
    let needed = Image::open(&file).expect("an image").newest_needed().expect("a version");
    assert!(Some(needed) <= node::glibc(), "{needed}, {:?}", node::glibc());
    let node = Node { glibc: glibc("2.5"), ..Node::here() };
    let line = format!(
        "it needs glibc {needed}, this node has 2.5: build it on an older system, or with \
         `-C target-feature=+crt-static`"
    );
    assert_eq!(check_against(&file, &node), Err(line));
}

#[test]
fn the_newest_glibc_needed_is_compared_by_number() {
    assert_eq!(PLAIN.check(&node("x86_64", "2.38")), Ok(()));
    assert_eq!(PLAIN.check(&node("x86_64", "2.100")), Ok(()));
    let line = "it needs glibc 2.38, this node has 2.34: build it on an older system, or with `-C \
                target-feature=+crt-static`";
    assert_eq!(PLAIN.check(&node("x86_64", "2.34")), Err(line.to_owned()));
}

#[test]
fn what_only_weak_symbols_need_is_not_needed() {
    let program = Program { needs: &[("GLIBC_2.38", abi::VER_FLG_WEAK), ("GLIBC_2.17", 0)], ..PLAIN };
    assert_eq!(program.check(&node("x86_64", "2.17")), Ok(()));
    assert!(program.check(&node("x86_64", "2.16")).is_err());
}

#[test]
fn versions_without_a_number_and_of_other_libraries_say_nothing() {
    let needs = &[("GLIBC_PRIVATE", 0), ("GLIBC_ABI_DT_RELR", 0), ("GCC_14.0", 0), ("", 0)];
    assert_eq!(Program { needs, ..PLAIN }.check(&node("x86_64", "2.5")), Ok(()));
}

#[test]
fn a_node_without_glibc_refuses_none_for_it() {
    assert_eq!(PLAIN.check(&Node { glibc: None, ..node("x86_64", "2.5") }), Ok(()));
}

#[test]
fn a_loader_of_another_system_brings_its_own_glibc() {
    let program = Program { loader: Some("/nix/store/x-glibc-2.40/lib/ld-linux-x86-64.so.2"), ..PLAIN };
    assert_eq!(program.check(&node("x86_64", "2.5")), Ok(()));
}

#[test]
fn a_program_for_another_machine_is_refused() {
    let arm = Program { machine: abi::EM_AARCH64, ..PLAIN };
    let refused = |program: &Program, node: &Node| program.check(node).expect_err("refused");
    assert_eq!(refused(&arm, &node("x86_64", "2.5")), "it is for aarch64, this node is x86_64");
    assert_eq!(refused(&PLAIN, &node("aarch64", "2.5")), "it is for x86_64, this node is aarch64");
    let odd = Program { machine: 999, ..PLAIN };
    let line = "it is for another machine (ELF number 999, 64 bit, little-endian), this node is x86_64";
    assert_eq!(refused(&odd, &node("x86_64", "2.5")), line);
}

#[test]
fn a_node_of_an_unknown_machine_does_not_judge_by_it() {
    assert_eq!(PLAIN.check(&node("unheard-of", "2.38")), Ok(()));
}

#[test]
fn a_loader_that_is_not_there_is_named() {
    let program = Program { loader: Some("/lib/ld-musl-x86_64.so.1"), ..PLAIN };
    let node = Node { exists: |path| path == Path::new(LOADER), ..node("x86_64", "2.38") };
    let line = "its loader /lib/ld-musl-x86_64.so.1 is not on this node";
    assert_eq!(program.check(&node), Err(line.to_owned()));
    assert_eq!(PLAIN.check(&node), Ok(()));
}

#[test]
fn a_loaders_name_cannot_break_the_line() {
    let program = Program { loader: Some("/lib/\n\x1b[31m"), ..PLAIN };
    let line = program.check(&Node { exists: |_| false, ..node("x86_64", "2.38") }).expect_err("refused");
    assert_eq!(line, "its loader /lib/\\n\\u{1b}[31m is not on this node");
}

#[test]
fn a_static_program_needs_neither_loader_nor_glibc() {
    let program = Program { loader: None, ..PLAIN };
    assert_eq!(program.check(&Node { exists: |_| false, ..node("x86_64", "2.5") }), Ok(()));
}

#[test]
fn what_is_no_program_is_refused() {
    let here = node("x86_64", "2.38");
    for bytes in
        [&b""[..], b"\x7fEL", b"#!/bin/sh\necho a script that is long enough for a header of ELF\n", b"MZ"]
    {
        let refused = check_against(&file_of(bytes), &here);
        assert_eq!(refused, Err("it is no executable for Linux (no ELF header)".to_owned()));
    }
    let object = Program { kind: abi::ET_REL, ..PLAIN }.check(&here);
    assert_eq!(object, Err("it is no executable for Linux (an ELF file, but no program)".to_owned()));
}

#[test]
fn headers_outside_the_file_are_damage() {
    let bytes = PLAIN.bytes();
    let line = "it is damaged: its ELF headers do not fit the file";
    // Within the program headers, and within the loader's name.
    for length in [100, 125] {
        assert_eq!(check_against(&file_of(&bytes[..length]), &node("x86_64", "2.5")), Err(line.to_owned()));
    }
    // Without the sections nothing is known of versions.
    assert_eq!(check_against(&file_of(&bytes[..bytes.len() - 1]), &node("x86_64", "2.5")), Ok(()));
}

#[test]
fn a_truncated_program_never_panics() {
    let node = node("x86_64", "2.5");
    let bytes = PLAIN.bytes();
    let (small, large) = (file_of(&bytes), file_of(&fs::read("/proc/self/exe").expect("this test")));
    let large_bytes = large.metadata().expect("its length").len();
    // From the longest on, as the same file is cut again and again.
    for length in (1..200).rev().map(|part| large_bytes / 200 * part).chain((0..=200).rev()) {
        large.set_len(length).expect("to cut it");
        let _ = check_against(&large, &node);
    }
    for length in (0..bytes.len() as u64).rev() {
        small.set_len(length).expect("to cut it");
        let _ = check_against(&small, &node);
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut random = xorshift(0x9E37_79B9_7F4A_7C15);
    // All of the small one matters, so few of its bytes change; of this test, many.
    flip(&PLAIN.bytes(), 16, &mut random);
    flip(&fs::read("/proc/self/exe").expect("this test"), 4096, &mut random);
}

/// 2000 times up to so many bytes of the first 64 KiB, the first 20 excepted: what is refused at once tests little.
fn flip(bytes: &[u8], flips_max: u64, random: &mut impl FnMut() -> u64) {
    let node = Node { exists: |_| true, ..Node::here() };
    let file = file_of(bytes);
    let head = &bytes[..bytes.len().min(64 << 10)];
    for _ in 0..2000 {
        let mut flipped = head.to_vec();
        for _ in 0..=random() % flips_max {
            let at = 20 + random() as usize % (head.len() - 20);
            flipped[at] = random() as u8;
        }
        file.write_all_at(&flipped, 0).expect("to write it");
        let _ = check_against(&file, &node);
        let image = Image::open(&file).expect("the header is left");
        let _ = (image.newest_needed(), image.newest_defined());
    }
}

fn xorshift(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// A program whose section of versions has other counts.
fn with_versions(count: u32, bytes: u64) -> Vec<u8> {
    let mut program = PLAIN.bytes();
    let section = program.len() - 2 * 64;
    program[section + 32..section + 40].copy_from_slice(&bytes.to_le_bytes());
    program[section + 44..section + 48].copy_from_slice(&count.to_le_bytes());
    program
}

#[test]
fn a_section_larger_than_the_file_or_the_bound_is_not_read() {
    let file = file_of(&with_versions(1, 12 << 20));
    assert_eq!(check_against(&file, &node("x86_64", "2.5")), Ok(()));
    file.set_len(1 << 30).expect("a longer file");
    assert!(check_against(&file, &node("x86_64", "2.5")).is_err());
    let file = file_of(&with_versions(1, 17 << 20));
    file.set_len(1 << 30).expect("a longer file");
    assert_eq!(check_against(&file, &node("x86_64", "2.5")), Ok(()));
}

#[test]
fn fifty_thousand_million_versions_take_no_time() {
    let file = file_of(&with_versions(u32::MAX, 12 << 20));
    // Each is a library with 65535 versions, of which it is the first itself, and each next one is the next library.
    let mut entry = [1, u16::MAX].map(u16::to_le_bytes).as_flattened().to_vec();
    entry.extend([0, 0, 16].map(u32::to_le_bytes).as_flattened());
    let start = 120 + LOADER.len() as u64 + 1;
    // Written over the names and section headers, too, so these come again, behind it.
    let program = with_versions(u32::MAX, 12 << 20);
    file.write_all_at(&entry.repeat((12 << 20) / entry.len()), start).expect("to write it");
    let sections_at = 13 << 20;
    file.write_all_at(&program[program.len() - 3 * 64..], sections_at).expect("to write it");
    file.write_all_at(&sections_at.to_le_bytes(), 40).expect("to write it");
    assert_eq!(check_against(&file, &node("x86_64", "2.5")), Ok(()));
    assert_eq!(Image::open(&file).expect("an image").newest_needed(), None);
}

#[test]
fn the_file_stays_where_it_was() {
    use std::io::{Seek, SeekFrom};
    let mut file = file_of(&PLAIN.bytes());
    file.seek(SeekFrom::Start(7)).expect("to seek");
    let _ = check_against(&file, &node("x86_64", "2.5"));
    assert_eq!(file.stream_position().expect("the position"), 7);
}

#[test]
fn the_mapped_glibc_is_found_under_its_new_and_its_old_name() {
    let line = |path| format!("7f00-7f01 r--p 00000000 08:01 42    {path}\n");
    let mapped =
        |path| node::mapped_in(format!("0-1 rw-p 0 00:00 0\n{}{}", line("/bin/cw"), line(path)).as_bytes());
    for path in ["/usr/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libc-2.31.so"] {
        assert_eq!(mapped(path).as_deref(), Some(Path::new(path)));
    }
    for path in [
        "/usr/lib/libcap.so.2",
        "/lib/libc-client.so",
        "/nix/store/x/lib/libc.so.6",
        "/lib/libc.so.6 (deleted)",
    ] {
        assert_eq!(mapped(path), None, "{path}");
    }
}
