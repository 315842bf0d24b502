/* image_link.c -- room for the weights image that a linker can place, and the image in it. */
#include "image.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- room ---- */

enum { PAGE = 4096, SECTIONS = 7, SYMBOLS = 2 };
/* Sections of x86-64 that may lie far from code: weights beyond 2 GB must not separate it from its
 * other constants. */
enum { FAR_ON_X86_64 = 0x10000000 };

static const char symbol_name[] = "mlopt_weights";
static const char section_names[] =
	"\0.lrodata.mlopt\0.rodata.mlopt\0.note.GNU-stack\0.symtab\0.strtab\0.shstrtab";

typedef struct room {
	Elf64_Ehdr header;
	Elf64_Sym symbol[SYMBOLS];
	Elf64_Shdr section[SECTIONS];
	char behind[8];
	char symbol_names[1 + sizeof symbol_name];
	char section_names[sizeof section_names];
} room;

static Elf64_Shdr
section(const char *name, uint32_t type, uint64_t offset, uint64_t size, uint64_t align)
{
	const char *at = memmem(section_names, sizeof section_names, name, strlen(name) + 1);

	return (Elf64_Shdr){.sh_name = (uint32_t)(at - section_names),
			    .sh_type = type,
			    .sh_offset = offset,
			    .sh_size = size,
			    .sh_addralign = align};
}

/* The room has no bytes in this file; the few that follow in a section of the same name are there
 * so that the section they become has bytes in the linked file. */
static void
fill_sections(room *r, uint64_t image_bytes, bool x86_64)
{
	const char *name = x86_64 ? ".lrodata.mlopt" : ".rodata.mlopt";
	Elf64_Shdr *s = r->section;

	s[1] = section(name, SHT_NOBITS, 0, image_bytes, PAGE);
	s[2] = section(name, SHT_PROGBITS, offsetof(room, behind), sizeof r->behind, 1);
	s[1].sh_flags = s[2].sh_flags = SHF_ALLOC | (x86_64 ? FAR_ON_X86_64 : 0);
	s[3] = section(".note.GNU-stack", SHT_PROGBITS, 0, 0, 1);
	s[4] = section(".symtab", SHT_SYMTAB, offsetof(room, symbol), sizeof r->symbol, 8);
	s[4].sh_link = 5;
	s[4].sh_info = 1; /* first global symbol */
	s[4].sh_entsize = sizeof *r->symbol;
	s[5] = section(".strtab", SHT_STRTAB, offsetof(room, symbol_names), sizeof r->symbol_names,
		       1);
	s[6] = section(".shstrtab", SHT_STRTAB, offsetof(room, section_names),
		       sizeof r->section_names, 1);
}

ml_bytes
ml_image_room(ml_arena *arena, size_t bytes, const ml_target *target)
{
	bool x86_64 = !strncmp(target->triple, "x86_64", 6);
	room *r = ML_NEW(arena, room);

	r->header = (Elf64_Ehdr){
		.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
			    EV_CURRENT},
		.e_type = ET_REL,
		.e_machine = x86_64 ? EM_X86_64 : EM_AARCH64,
		.e_version = EV_CURRENT,
		.e_shoff = offsetof(room, section),
		.e_ehsize = sizeof r->header,
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = SECTIONS,
		.e_shstrndx = SECTIONS - 1,
	};
	r->symbol[1] = (Elf64_Sym){
		.st_name = 1,
		.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT),
		.st_other = STV_HIDDEN,
		.st_shndx = 1,
		.st_size = bytes,
	};
	fill_sections(r, bytes, x86_64);
	memcpy(r->symbol_names + 1, symbol_name, sizeof symbol_name);
	memcpy(r->section_names, section_names, sizeof section_names);
	return (ml_bytes){r, sizeof *r};
}

/* ---- the image in it ---- */

/* Where the symbol's bytes are in a file that a linker has just written; 0: it has none. */
static uint64_t
find_room(const uint8_t *file, uint64_t bytes, uint64_t size)
{
	const Elf64_Ehdr *h = (const void *)file;
	const Elf64_Shdr *section = (const void *)(file + h->e_shoff), *table = section;

	while (table < section + h->e_shnum && table->sh_type != SHT_SYMTAB)
		table++;
	if (table == section + h->e_shnum)
		return 0;
	const Elf64_Sym *symbol = (const void *)(file + table->sh_offset);
	const char *names = (const char *)file + section[table->sh_link].sh_offset;
	for (uint64_t i = 1; i < table->sh_size / sizeof *symbol; i++) {
		const Elf64_Shdr *s = &section[symbol[i].st_shndx];
		if (symbol[i].st_size != size || strcmp(names + symbol[i].st_name, symbol_name))
			continue;
		uint64_t at = symbol[i].st_value + s->sh_offset - s->sh_addr;
		return s->sh_type == SHT_PROGBITS && at + size <= bytes ? at : 0;
	}
	return 0;
}

/* In one go, a file lies in huge pages of the page cache where the file system has them. */
static bool
write_parts(int fd, struct iovec *part, int count)
{
	while (count) {
		ssize_t n = writev(fd, part, count);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		for (; count && (size_t)n >= part->iov_len; part++, count--)
			n -= (ssize_t)part->iov_len;
		if (count) {
			part->iov_base = (char *)part->iov_base + n;
			part->iov_len -= (size_t)n;
		}
	}
	return true;
}

static ml_status
cannot_write(ml_context *cx, const char *path)
{
	return ml_error(cx, ML_ERR_IO, NULL, "cannot write '%s': %s", ml_escaped(&cx->arena, path),
			strerror(errno));
}

static ml_status
write_with_image(ml_context *cx, const ml_image *image, uint8_t *linked, const struct stat *s,
		 const char *path)
{
	uint64_t bytes = (uint64_t)s->st_size, at = find_room(linked, bytes, image->bytes);
	uint64_t end = at + image->bytes;
	struct iovec part[] = {
		{linked, at}, {image->at, image->bytes}, {linked + end, bytes - end}};

	if (!at)
		return ml_error(cx, ML_ERR_CODEGEN, NULL, "the linker left no room for weights");
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, s->st_mode & 0777);
	if (fd < 0)
		return cannot_write(cx, path);
	bool fine = write_parts(fd, part, 3);
	return close(fd) || !fine ? cannot_write(cx, path) : ML_OK;
}

ml_status
ml_image_place(ml_context *cx, const ml_image *image, const char *linked, const char *path)
{
	int fd = open(linked, O_RDONLY | O_CLOEXEC);
	struct stat s = {0};
	void *p = MAP_FAILED;

	if (fd >= 0 && !fstat(fd, &s))
		p = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (fd >= 0)
		close(fd);
	if (p == MAP_FAILED)
		return ml_error(cx, ML_ERR_IO, NULL, "cannot read '%s': %s",
				ml_escaped(&cx->arena, linked), strerror(errno));
	ml_status status = write_with_image(cx, image, p, &s, path);
	munmap(p, (size_t)s.st_size);
	return status;
}
