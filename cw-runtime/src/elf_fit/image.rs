//! An ELF file, read at offsets: an executable may have a GB, and what matters of it are a few KiB.
//!
//! Every number in it may be a lie. So whatever is read has a bound, and must lie inside the file before memory is
//! taken for it; how much work follows from a number has a bound, too.

use std::{fs::File, io, os::unix::fs::FileExt, path::PathBuf};

use elf::{
    abi,
    endian::{AnyEndian, EndianParse},
    file::{Class, ELF32_EHDR_TAILSIZE, ELF64_EHDR_TAILSIZE, FileHeader, parse_ident},
    gnu_symver::{VerDefIterator, VerNeedIterator},
    parse::ParseAt,
    section::{SectionHeader, SectionHeaderTable},
    segment::{ProgramHeader, SegmentTable},
};

use super::{Version, path_of};

/// No table or section above this is read. Those read here have some 10 KiB; 65535 section headers have 4 MiB.
const READ_BYTES_MAX: u64 = 16 << 20;

/// Of the versions in a file, so many are looked at. glibc, which has the most, defines about 40.
const VERSIONS_MAX: usize = 4096;

/// A name this long is no version.
const NAME_BYTES_MAX: usize = 32;

/// Linux starts nothing whose loader's path is longer, the zero at its end included.
const PATH_BYTES_MAX: u64 = 4096;

const NO_ELF: &str = "it is no executable for Linux (no ELF header)";
const NO_PROGRAM: &str = "it is no executable for Linux (an ELF file, but no program)";

/// The names `std::env::consts::ARCH` has for machines, where Rust and QUIC run.
const MACHINES: [(u16, Class, AnyEndian, &str); 9] = [
    (abi::EM_X86_64, Class::ELF64, AnyEndian::Little, "x86_64"),
    (abi::EM_AARCH64, Class::ELF64, AnyEndian::Little, "aarch64"),
    (abi::EM_386, Class::ELF32, AnyEndian::Little, "x86"),
    (abi::EM_ARM, Class::ELF32, AnyEndian::Little, "arm"),
    (abi::EM_RISCV, Class::ELF64, AnyEndian::Little, "riscv64"),
    (abi::EM_LOONGARCH, Class::ELF64, AnyEndian::Little, "loongarch64"),
    (abi::EM_S390, Class::ELF64, AnyEndian::Big, "s390x"),
    // Both byte orders have one name there. A node of the other order refuses it later, at exec.
    (abi::EM_PPC64, Class::ELF64, AnyEndian::Little, "powerpc64"),
    (abi::EM_PPC64, Class::ELF64, AnyEndian::Big, "powerpc64"),
];

/// Whether a machine has a name here.
pub(super) fn is_machine(name: &str) -> bool {
    MACHINES.iter().any(|machine| machine.3 == name)
}

/// What every program needs is not where the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

/// An ELF file whose header has been read.
pub(super) struct Image<'f> {
    file: &'f File,
    bytes: u64,
    header: FileHeader<AnyEndian>,
}

impl<'f> Image<'f> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// It is neither a program nor a library for Linux, in one line for the user; or reading failed.
    pub(super) fn open(file: &'f File) -> Result<Self, String> {
        let read = |offset, into: &mut [u8]| {
            file.read_exact_at(into, offset).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => NO_ELF.to_owned(),
                _ => format!("it cannot be read: {error}"),
            })
        };
        let mut ident = [0; abi::EI_NIDENT];
        read(0, &mut ident)?;
        let ident = parse_ident(&ident).map_err(|_| NO_ELF)?;
        let mut tail = [0; ELF64_EHDR_TAILSIZE];
        let tail = match ident.1 {
            Class::ELF32 => &mut tail[..ELF32_EHDR_TAILSIZE],
            Class::ELF64 => &mut tail[..],
        };
        read(abi::EI_NIDENT as u64, tail)?;
        let header = FileHeader::parse_tail(ident, tail).map_err(|_| NO_ELF)?;
        // A program that may lie anywhere in memory, as most today, has the type of a library.
        if ![abi::ET_EXEC, abi::ET_DYN].contains(&header.e_type) {
            return Err(NO_PROGRAM.to_owned());
        }
        let bytes = file.metadata().map_err(|error| format!("it cannot be read: {error}"))?.len();
        Ok(Self { file, bytes, header })
    }

    /// The machine it is for, as `std::env::consts::ARCH` would say it there.
    pub(super) fn machine(&self) -> String {
        let FileHeader { e_machine, class, endianness, .. } = self.header;
        let known =
            MACHINES.iter().find(|known| (known.0, known.1, known.2) == (e_machine, class, endianness));
        known.map_or_else(|| self.odd_machine(), |known| known.3.to_owned())
    }

    fn odd_machine(&self) -> String {
        let bits = if self.header.class == Class::ELF64 { 64 } else { 32 };
        let order = if self.header.endianness.is_little() { "little" } else { "big" };
        format!("another machine (ELF number {}, {bits} bit, {order}-endian)", self.header.e_machine)
    }

    /// The program that loads it and its libraries; none if it is static.
    pub(super) fn loader(&self) -> Result<Option<PathBuf>, Damaged> {
        let header = &self.header;
        let segments = self.table::<ProgramHeader>(header.e_phoff, header.e_phnum, header.e_phentsize);
        let segments = segments.ok_or(Damaged)?;
        let mut segments = SegmentTable::new(header.endianness, header.class, &segments).iter();
        let Some(segment) = segments.find(|segment| segment.p_type == abi::PT_INTERP) else {
            return Ok(None);
        };
        let path = self.read(segment.p_offset, segment.p_filesz, PATH_BYTES_MAX).ok_or(Damaged)?;
        match path.split(|&byte| byte == 0).next() {
            Some(path) if !path.is_empty() => Ok(Some(path_of(path))),
            _ => Err(Damaged),
        }
    }

    /// The newest glibc it needs symbols of, from whichever of glibc's libraries.
    ///
    /// What is marked as needed by weak symbols only is left out: the loader starts a program without it, too.
    pub(super) fn newest_needed(&self) -> Option<Version> {
        let table = self.versions(abi::SHT_GNU_VERNEED)?;
        let FileHeader { endianness, class, .. } = self.header;
        VerNeedIterator::new(endianness, class, table.count, 0, &table.content)
            .take(VERSIONS_MAX)
            .flat_map(|(_library, versions)| versions)
            .take(VERSIONS_MAX)
            .filter(|version| version.vna_flags & abi::VER_FLG_WEAK == 0)
            .filter_map(|version| self.version_at(table.names, version.vna_name))
            .max()
    }

    /// The newest glibc it has symbols of, if it is one.
    pub(super) fn newest_defined(&self) -> Option<Version> {
        let table = self.versions(abi::SHT_GNU_VERDEF)?;
        let FileHeader { endianness, class, .. } = self.header;
        VerDefIterator::new(endianness, class, table.count, 0, &table.content)
            .take(VERSIONS_MAX)
            // The first name is the version's own, those after it are the versions it continues.
            .filter_map(|(_, mut names)| names.next())
            .filter_map(|name| self.version_at(table.names, name.vda_name))
            .max()
    }

    /// The first section of this type, and where its names are.
    fn versions(&self, section_type: u32) -> Option<Versions> {
        // The parser adds 32-bit numbers of the file to a usize unchecked. Where that is no wider, they overflow.
        if usize::BITS < 64 {
            return None;
        }
        let header = &self.header;
        let sections = self.table::<SectionHeader>(header.e_shoff, header.e_shnum, header.e_shentsize)?;
        let sections = SectionHeaderTable::new(header.endianness, header.class, &sections);
        let section = sections.iter().find(|section| section.sh_type == section_type)?;
        let names = sections.get(usize::try_from(section.sh_link).ok()?).ok()?.sh_offset;
        let content = self.read(section.sh_offset, section.sh_size, READ_BYTES_MAX)?;
        Some(Versions { content, count: u64::from(section.sh_info), names })
    }

    /// The version whose name begins `offset` bytes after `names`. Of a table of names, which has MBs in a program
    /// that exports many, only the name is read.
    fn version_at(&self, names: u64, offset: u32) -> Option<Version> {
        let mut name = [0; NAME_BYTES_MAX];
        let read = self.file.read_at(&mut name, names.checked_add(u64::from(offset))?).ok()?;
        let end = name[..read].iter().position(|&byte| byte == 0)?;
        Version::of_symbols(str::from_utf8(&name[..end]).ok()?)
    }

    /// The bytes of one of the two tables of headers.
    fn table<T: ParseAt>(&self, offset: u64, count: u16, entry_bytes: u16) -> Option<Vec<u8>> {
        let entry_bytes = T::validate_entsize(self.header.class, usize::from(entry_bytes)).ok()?;
        self.read(offset, u64::from(count) * entry_bytes as u64, READ_BYTES_MAX)
    }

    fn read(&self, offset: u64, bytes: u64, bytes_max: u64) -> Option<Vec<u8>> {
        if bytes > bytes_max || offset.checked_add(bytes)? > self.bytes {
            return None;
        }
        let mut content = vec![0; usize::try_from(bytes).ok()?];
        self.file.read_exact_at(&mut content, offset).ok()?;
        Some(content)
    }
}

/// A section of versions.
struct Versions {
    content: Vec<u8>,
    count: u64,
    /// Where in the file its names are.
    names: u64,
}
