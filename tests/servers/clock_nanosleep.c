/* Waits until a moment of a clock that nobody sets, as CPython 3.11 does in time.sleep: without a look at whether that
 * clock is a wrong one. For libfaketime 0.9.10 subtracts a time of the wrong clock from such a moment, and what is left
 * is refused (its issue 426). */

#define SYS_CLOCK_NANOSLEEP 230 /* x86-64 */

long syscall(long number, ...);
int *__errno_location(void);

int clock_nanosleep(int clock, int flags, const void *request, void *remain)
{
	return syscall(SYS_CLOCK_NANOSLEEP, clock, flags, request, remain) ? *__errno_location() : 0;
}
