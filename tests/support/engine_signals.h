/* Lets guests trap inside cmocka tests. The engine turns SIGSEGV, SIGILL, SIGFPE and SIGBUS from
 * compiled code into traps; cmocka puts its own handlers in their place around every test and
 * fixture. A test that runs guests which trap calls engine_signals_learn right after the first
 * cal_vm_new of the process (later engines install nothing), and engine_signals_use before running
 * them. */
#ifndef CAL_TESTS_ENGINE_SIGNALS_H
#define CAL_TESTS_ENGINE_SIGNALS_H

#include <signal.h>
#include <stddef.h>

static const int engine_signal_numbers[] = {SIGSEGV, SIGILL, SIGFPE, SIGBUS};
enum { ENGINE_SIGNALS = 4 };
static struct sigaction engine_signal_actions[ENGINE_SIGNALS];

static inline void engine_signals_learn(void) {
    for (size_t i = 0; i < ENGINE_SIGNALS; i++)
        sigaction(engine_signal_numbers[i], NULL, &engine_signal_actions[i]);
}

static inline void engine_signals_use(void) {
    for (size_t i = 0; i < ENGINE_SIGNALS; i++)
        sigaction(engine_signal_numbers[i], &engine_signal_actions[i], NULL);
}

#endif
