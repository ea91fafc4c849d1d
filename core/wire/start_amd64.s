#include "textflag.h"

// The program's first instruction, if the linker is told so: the function that the program
// calls _patchbay_begin (go:linkname), and then Go's own first instruction with the stack as it was.
TEXT _patchbay_start(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVQ	SP, BX
	SUBQ	$32, SP
	ANDQ	$~15, SP
	MOVQ	BX, 16(SP)
	// What is called looks for its goroutine below FS, and does nothing with it.
	MOVQ	$158, AX		// arch_prctl
	MOVQ	$0x1002, DI		// ARCH_SET_FS
	LEAQ	·noGoroutine+8(SB), SI
	SYSCALL
	MOVQ	16(SP), BX
	MOVQ	BX, 0(SP)
	CALL	_patchbay_begin(SB)
	MOVQ	16(SP), SP
	JMP	_rt0_amd64_linux(SB)
