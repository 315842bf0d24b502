/* weights_object.c -- the weights image as a relocatable ELF file that the linker can place.
 *
 * Through LLVM's text, or .incbin, the same bytes would pass through memory several times.
 */
#include "weights_object.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, SECTIONS = 6, SYMBOLS = 2 };
/* Sections of x86-64 that may lie far from code: weights beyond 2 GB must not separate it from its
 * other constants. */
enum { FAR_ON_X86_64 = 0x10000000 };

static const char symbol_names[] = "\0mlopt_weights";
static const char section_names[] =
	"\0.lrodata.mlopt\0.rodata.mlopt\0.note.GNU-stack\0.symtab\0.strtab\0.shstrtab";

/* What stands behind the image. */
typedef struct tail {
	Elf64_Sym symbol[SYMBOLS];
	Elf64_Shdr section[SECTIONS];
	char symbol_names[sizeof symbol_names];
	char section_names[sizeof section_names];
} tail;

static uint32_t
section_name(const char *name)
{
	return (uint32_t)((const char *)memmem(section_names, sizeof section_names, name,
					       strlen(name) + 1) -
			  section_names);
}

static Elf64_Shdr
section(const char *name, uint32_t type, uint64_t offset, uint64_t size, uint64_t align)
{
	return (Elf64_Shdr){.sh_name = section_name(name),
			    .sh_type = type,
			    .sh_offset = offset,
			    .sh_size = size,
			    .sh_addralign = align};
}

static void
fill_tail(tail *t, uint64_t at, uint64_t image_bytes, bool x86_64)
{
	memcpy(t->symbol_names, symbol_names, sizeof symbol_names);
	memcpy(t->section_names, section_names, sizeof section_names);
	t->symbol[1] = (Elf64_Sym){
		.st_name = 1,
		.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT),
		.st_other = STV_HIDDEN,
		.st_shndx = 1,
		.st_size = image_bytes,
	};
	t->section[1] = section(x86_64 ? ".lrodata.mlopt" : ".rodata.mlopt", SHT_PROGBITS, PAGE,
				image_bytes, PAGE);
	t->section[1].sh_flags = SHF_ALLOC | (x86_64 ? FAR_ON_X86_64 : 0);
	t->section[2] = section(".note.GNU-stack", SHT_PROGBITS, at, 0, 1);
	t->section[3] =
		section(".symtab", SHT_SYMTAB, at + offsetof(tail, symbol), sizeof t->symbol, 8);
	t->section[3].sh_link = 4;
	t->section[3].sh_info = 1; /* first global symbol */
	t->section[3].sh_entsize = sizeof *t->symbol;
	t->section[4] = section(".strtab", SHT_STRTAB, at + offsetof(tail, symbol_names),
				sizeof symbol_names, 1);
	t->section[5] = section(".shstrtab", SHT_STRTAB, at + offsetof(tail, section_names),
				sizeof section_names, 1);
}

static void
fill_header(Elf64_Ehdr *h, uint64_t at, bool x86_64)
{
	*h = (Elf64_Ehdr){
		.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
			    EV_CURRENT},
		.e_type = ET_REL,
		.e_machine = x86_64 ? EM_X86_64 : EM_AARCH64,
		.e_version = EV_CURRENT,
		.e_shoff = at + offsetof(tail, section),
		.e_ehsize = sizeof *h,
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = SECTIONS,
		.e_shstrndx = SECTIONS - 1,
	};
}

/* Room on the disk is claimed first: a full disk must not become a SIGBUS. */
static uint8_t *
map_file(const char *path, uint64_t bytes)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

	if (fd < 0)
		return NULL;
	int error = posix_fallocate(fd, 0, (off_t)bytes);
	void *p = error ? MAP_FAILED : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	error = error ? error : errno;
	close(fd);
	errno = error;
	return p == MAP_FAILED ? NULL : p;
}

ml_status
ml_write_weights_object(ml_context *cx, const ml_plan *plan, const ml_target *target, bool pairs,
			int workers, const char *path)
{
	uint64_t image = plan->weights_bytes ? plan->weights_bytes : 1;
	uint64_t at = (PAGE + image + 7) & ~(uint64_t)7, bytes = at + sizeof(tail);
	bool x86_64 = !strncmp(target->triple, "x86_64", 6);
	uint8_t *file = map_file(path, bytes);

	if (!file)
		return ml_error(
			cx, ML_ERR_IO, NULL, "cannot write %llu bytes of weights to '%s': %s",
			(unsigned long long)bytes, ml_escaped(&cx->arena, path), strerror(errno));
	fill_header((Elf64_Ehdr *)file, at, x86_64);
	ml_write_weights(plan, pairs, workers, file + PAGE);
	fill_tail((tail *)(file + at), at, image, x86_64);
	munmap(file, bytes);
	return ML_OK;
}
