using System.Globalization;
using System.Runtime.InteropServices;

namespace Sconce.Engine.Weights.Script;

/// <summary>
/// Takes from this process what code that it is about to run must not have, for good: memory and processor time beyond a limit, files of its own, the network, other programs and other processes. A user
/// namespace would need a process of one thread, which .NET never is; so the kernel's filter of system calls (seccomp) does it, which needs no privilege: an allow-list. x86-64 Linux, as the engine is.
/// </summary>
internal static unsafe partial class Confinement
{
    private const int NoNewPrivileges = 38;
    private const long Seccomp = 317;
    private const int ModeFilter = 1;
    private const int AllThreads = 1;

    private const int LimitProcessor = 0;
    private const int LimitFileSize = 1;
    private const int LimitCore = 4;
    private const int LimitAddressSpace = 9;

    // Of the filter's language: load a word of the call, compare, answer.
    private const ushort Load = 0x20;
    private const ushort JumpIfEqual = 0x15;
    private const ushort JumpIfAtLeast = 0x35;
    private const ushort JumpIfAnyBit = 0x45;
    private const ushort Answer = 0x06;

    private const uint Allow = 0x7fff0000;
    private const uint Kill = 0x80000000;
    private const uint NotPermitted = 0x00050000 | 1;
    private const uint NoTerminal = 0x00050000 | 25;

    // What libraries take for an older kernel, and do without.
    private const uint NoSuchCall = 0x00050000 | 38;

    // In struct seccomp_data.
    private const uint CallNumber = 0;
    private const uint Architecture = 4;
    private const uint FirstArgument = 16;
    private const uint HighHalf = 4;

    private const uint X64 = 0xc000003e;
    private const uint NumbersOfX32 = 0x40000000;

    private const uint Open = 2;
    private const uint IoControl = 16;
    private const uint Clone = 56;
    private const uint FileControl = 72;
    private const uint TgKill = 234;
    private const uint OpenAt = 257;
    private const uint ResourceLimits = 302;

    // O_WRONLY, O_RDWR, O_CREAT and O_TRUNC; O_TMPFILE comes with one of the first two.
    private const uint Writing = 1 | 2 | 0x40 | 0x200;
    private const uint CloneThread = 0x10000;

    // What code needs that computes, and .NET, OpenMP and glibc around it. All that names files for writing, sockets, other processes or the host's settings is left out, and what later kernels bring.
    private static readonly uint[] Free =
    [
        // read, write, close, stat, fstat, lstat, poll, lseek, pread64, readv, writev, access, select, dup, dup2, getcwd, readlink, statfs, fstatfs, getdents64, newfstatat, readlinkat, faccessat, pselect6, ppoll, dup3, pipe2, statx,
        // faccessat2; eventfd2 and epoll.
        0, 1, 3, 4, 5, 6, 7, 8, 17, 19, 20, 21, 23, 32, 33, 79, 89, 137, 138, 217, 262, 267, 269, 270, 271, 292, 293, 332, 439, 290, 291, 232, 233, 281, 441,

        // mmap, mprotect, munmap, brk, mremap, msync, mincore, madvise, mlock, munlock, mlock2, get_mempolicy.
        9, 10, 11, 12, 25, 26, 27, 28, 149, 150, 325, 239,

        // Signals to oneself: rt_sigaction, rt_sigprocmask, rt_sigreturn, pause, rt_sigpending, rt_sigtimedwait, sigaltstack.
        13, 14, 15, 34, 127, 128, 131,

        // Threads: sched_yield, exit, gettid, futex, sched_setaffinity, sched_getaffinity, set_tid_address, restart_syscall, exit_group, set_robust_list, get_robust_list, getcpu, membarrier, rseq, futex_waitv, futex_wake, futex_wait,
        // futex_requeue; sched_getparam, sched_getscheduler, and the least and most priority.
        24, 60, 186, 202, 203, 204, 218, 219, 231, 273, 274, 309, 324, 334, 449, 454, 455, 456, 143, 145, 146, 147,

        // Time, and what the process is: nanosleep, gettimeofday, times, clock_gettime, clock_getres, clock_nanosleep, getpid, uname, getrlimit, getrusage, sysinfo, the ids of user, group and parent, prctl, arch_prctl, getrandom.
        35, 96, 100, 228, 229, 230, 39, 63, 97, 98, 99, 102, 104, 107, 108, 110, 157, 158, 318,
    ];

    // Commands of fcntl: F_DUPFD to F_SETFL, F_DUPFD_CLOEXEC, F_GET_SEALS; not those that send signals to others.
    private const uint FirstFileCommandBeyond = 5;
    private const uint DuplicateCloseOnExec = 1030;
    private const uint GetSeals = 1034;

    // Of ioctl: TCGETS, TIOCGWINSZ and FIONREAD; not what types into the terminal that the server was started from.
    private static readonly uint[] TerminalQuestions = [0x5401, 0x5413, 0x541b];

    /// <summary>Confines the process. There is no way back.</summary>
    /// <param name="memory">Bytes of address space that it may take beyond what it has.</param>
    /// <param name="processor">Seconds of processor time that it may use, all told.</param>
    /// <exception cref="PlatformNotSupportedException">The kernel, or what it runs in, does not let a process confine itself; nothing may be run then.</exception>
    public static void Enter(long memory, int processor)
    {
        if (RuntimeInformation.ProcessArchitecture != System.Runtime.InteropServices.Architecture.X64 || !OperatingSystem.IsLinux())
        {
            throw new PlatformNotSupportedException($"this is {RuntimeInformation.OSDescription} on {RuntimeInformation.ProcessArchitecture}; expected Linux on X64");
        }

        var pages = ulong.Parse(File.ReadAllText("/proc/self/statm").Split(' ')[0], CultureInfo.InvariantCulture);
        Set(LimitCore, 0);
        Set(LimitFileSize, 0);
        Set(LimitProcessor, (ulong)processor);
        Set(LimitAddressSpace, (pages * (ulong)Environment.SystemPageSize) + (ulong)memory);
        Check(prctl(NoNewPrivileges, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)");
        var filter = Filter();
        fixed (Instruction* instructions = filter)
        {
            var program = new Program { Count = (ushort)filter.Length, Instructions = instructions };
            Check(syscall(Seccomp, ModeFilter, AllThreads, &program), "seccomp");
        }
    }

    private static Instruction[] Filter()
    {
        var filter = new List<Instruction>
        {
            new(Load, 0, 0, Architecture), new(JumpIfEqual, 1, 0, X64), new(Answer, 0, 0, Kill),
            new(Load, 0, 0, CallNumber), new(JumpIfAtLeast, 0, 1, NumbersOfX32), new(Answer, 0, 0, Kill),
        };

        // Threads, not processes. Of clone3 a filter cannot see the flags; glibc does without it.
        Case(Clone, Argument(0), new(JumpIfAnyBit, 1, 0, CloneThread), new(Answer, 0, 0, NotPermitted), new(Answer, 0, 0, Allow));

        // To this process's own threads only: .NET stops them so for a garbage collection, and abort() ends the process so.
        Case(TgKill, Argument(0), new(JumpIfEqual, 1, 0, (uint)Environment.ProcessId), new(Answer, 0, 0, NotPermitted), new(Answer, 0, 0, Allow));
        Case(Open, Argument(1), new(JumpIfAnyBit, 0, 1, Writing), new(Answer, 0, 0, NotPermitted), new(Answer, 0, 0, Allow));
        Case(OpenAt, Argument(2), new(JumpIfAnyBit, 0, 1, Writing), new(Answer, 0, 0, NotPermitted), new(Answer, 0, 0, Allow));

        // Asked, not set: its third argument is what is to be set, or null.
        Case(ResourceLimits, Argument(2), new(JumpIfEqual, 1, 0, 0), new(Answer, 0, 0, NotPermitted), new(Load, 0, 0, FirstArgument + 16 + HighHalf), new(JumpIfEqual, 1, 0, 0), new(Answer, 0, 0, NotPermitted), new(Answer, 0, 0, Allow));
        Case(FileControl, Argument(1), new(JumpIfAtLeast, 0, 2, FirstFileCommandBeyond), new(JumpIfEqual, 1, 0, DuplicateCloseOnExec), new(JumpIfEqual, 0, 1, GetSeals), new(Answer, 0, 0, Allow), new(Answer, 0, 0, NotPermitted));
        Case(IoControl, [Argument(1), .. TerminalQuestions.SelectMany(question => new Instruction[] { new(JumpIfEqual, 0, 1, question), new(Answer, 0, 0, Allow) }), new(Answer, 0, 0, NoTerminal)]);
        foreach (var call in Free)
        {
            Case(call, new Instruction(Answer, 0, 0, Allow));
        }

        filter.Add(new Instruction(Answer, 0, 0, NoSuchCall));
        return [.. filter];

        void Case(uint call, params Instruction[] answer)
        {
            filter.Add(new Instruction(JumpIfEqual, 0, (byte)answer.Length, call));
            filter.AddRange(answer);
        }

        static Instruction Argument(uint index) => new(Load, 0, 0, FirstArgument + (8 * index));
    }

    private static void Set(int limit, ulong value)
    {
        var both = stackalloc ulong[2] { value, value };
        Check(setrlimit(limit, both), $"setrlimit({limit})");
    }

    private static void Check(long result, string call)
    {
        if (result != 0)
        {
            throw new PlatformNotSupportedException($"{call}: {Marshal.GetLastPInvokeErrorMessage()}");
        }
    }

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int setrlimit(int resource, ulong* limit);

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int prctl(int option, nuint a, nuint b, nuint c, nuint d);

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial long syscall(long number, nint a, nint b, Program* program);

    [StructLayout(LayoutKind.Sequential)]
    private readonly record struct Instruction(ushort Code, byte IfTrue, byte IfFalse, uint Value);

    [StructLayout(LayoutKind.Sequential)]
    private struct Program
    {
        public ushort Count;
        public Instruction* Instructions;
    }
}
