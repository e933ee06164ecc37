/* Lets CRIU read the resource limits of other users' processes where CAP_SYS_RESOURCE can not be had.
 *
 * prlimit(2) wants that capability for a process of another user, even to read; /proc/PID/limits tells the same
 * to anyone who may trace the process. Preloaded into criu: a read that is refused is answered from that file,
 * everything else is passed on. CRIU calls prlimit64 through syscall(2).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* Indexed by RLIMIT_*; the names are those of proc_pid_limits(5). */
static const char *const limit_names[RLIM_NLIMITS] = {
    [RLIMIT_CPU] = "Max cpu time",
    [RLIMIT_FSIZE] = "Max file size",
    [RLIMIT_DATA] = "Max data size",
    [RLIMIT_STACK] = "Max stack size",
    [RLIMIT_CORE] = "Max core file size",
    [RLIMIT_RSS] = "Max resident set",
    [RLIMIT_NPROC] = "Max processes",
    [RLIMIT_NOFILE] = "Max open files",
    [RLIMIT_MEMLOCK] = "Max locked memory",
    [RLIMIT_AS] = "Max address space",
    [RLIMIT_LOCKS] = "Max file locks",
    [RLIMIT_SIGPENDING] = "Max pending signals",
    [RLIMIT_MSGQUEUE] = "Max msgqueue size",
    [RLIMIT_NICE] = "Max nice priority",
    [RLIMIT_RTPRIO] = "Max realtime priority",
    [RLIMIT_RTTIME] = "Max realtime timeout",
};

static rlim_t limit_value(const char *word)
{
    return strcmp(word, "unlimited") == 0 ? RLIM_INFINITY : strtoull(word, NULL, 10);
}

static int read_limit(long pid, long resource, struct rlimit *limit)
{
    char path[48], line[160], soft[32], hard[32];
    int found = 0;
    FILE *file;

    if (resource < 0 || resource >= RLIM_NLIMITS || limit_names[resource] == NULL)
        return 0;
    if (pid == 0)
        snprintf(path, sizeof path, "/proc/self/limits");
    else
        snprintf(path, sizeof path, "/proc/%ld/limits", pid);
    file = fopen(path, "re");
    if (file == NULL)
        return 0;
    while (!found && fgets(line, sizeof line, file) != NULL) {
        size_t length = strlen(limit_names[resource]);

        if (strncmp(line, limit_names[resource], length) == 0 &&
            sscanf(line + length, "%31s %31s", soft, hard) == 2) {
            limit->rlim_cur = limit_value(soft);
            limit->rlim_max = limit_value(hard);
            found = 1;
        }
    }
    fclose(file);
    return found;
}

long syscall(long number, ...)
{
    static long (*next)(long, ...);
    long argument[6], result;
    va_list list;
    int index;

    va_start(list, number);
    for (index = 0; index < 6; index++)
        argument[index] = va_arg(list, long);
    va_end(list);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "syscall");
    result = next(number, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
    if (result == -1 && errno == EPERM && number == SYS_prlimit64 && argument[2] == 0 && argument[3] != 0) {
        if (read_limit(argument[0], argument[1], (struct rlimit *)argument[3]))
            return 0;
        errno = EPERM;
    }
    return result;
}
