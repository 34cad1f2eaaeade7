using System.Globalization;
using System.Runtime.InteropServices;

namespace Sconce.Engine.Weights.Script;

/// <summary>
/// Takes from this process what code that it is about to run must not have, for good: memory and processor time beyond a limit, files of its own, the network, other programs and other processes. A user
/// namespace would need a process of one thread, which .NET never is; so the kernel's filter of system calls (seccomp) does it, which needs no privilege. x86-64 Linux, as the engine is.
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
    private const uint NoSuchCall = 0x00050000 | 38;

    // In struct seccomp_data.
    private const uint CallNumber = 0;
    private const uint Architecture = 4;
    private const uint FirstArgument = 16;

    private const uint X64 = 0xc000003e;
    private const uint NumbersOfX32 = 0x40000000;

    private const uint Clone = 56;
    private const uint Clone3 = 435;
    private const uint Open = 2;
    private const uint OpenAt = 257;
    private const uint TgKill = 234;

    // O_WRONLY, O_RDWR, O_CREAT and O_TRUNC; O_TMPFILE comes with one of the first two.
    private const uint Writing = 1 | 2 | 0x40 | 0x200;
    private const uint CloneThread = 0x10000;

    private static readonly uint[] Refused =
    [
        // The network, other processes' sockets included.
        41, 42, 43, 44, 46, 49, 50, 53, 288, 307,

        // Other programs and processes.
        57, 58, 59, 322, 62, 101, 129, 200, 297, 310, 311, 424, 434, 438,

        // Files: creat, truncate, rename, mkdir, rmdir, link, unlink, symlink, chmod, chown, mknod and their newer kin; openat2, whose flags a filter cannot see.
        76, 82, 83, 84, 85, 86, 87, 88, 90, 91, 92, 93, 94, 133, 132, 235, 188, 189, 190, 197, 198, 199, 258, 259, 260, 261, 263, 264, 265, 266, 268, 280, 316, 437, 452,

        // The host: mounts, namespaces, modules, tracing, keys, rings, bpf, and what else nobody computes with.
        155, 160, 161, 165, 166, 167, 168, 169, 170, 171, 175, 176, 246, 248, 249, 250, 272, 298, 308, 313, 320, 321, 323, 425, 426, 427, 428, 429, 430, 442,
    ];

    /// <summary>Confines the process. There is no way back.</summary>
    /// <param name="memory">Bytes of address space that it may take beyond what it has.</param>
    /// <param name="processor">Seconds of processor time that it may use, all told.</param>
    /// <exception cref="PlatformNotSupportedException">The kernel, or what it runs in, does not let a process confine itself; nothing may be run then.</exception>
    public static void Enter(long memory, int processor)
    {
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

            // glibc then makes its threads by clone, whose flags a filter can see.
            new(JumpIfEqual, 0, 1, Clone3), new(Answer, 0, 0, NoSuchCall),
            new(JumpIfEqual, 0, 4, Clone), new(Load, 0, 0, FirstArgument), new(JumpIfAnyBit, 1, 0, CloneThread), new(Answer, 0, 0, NotPermitted), new(Answer, 0, 0, Allow),

            // To this process's own threads only: .NET stops them so for a garbage collection, and abort() ends the process so.
            new(JumpIfEqual, 0, 4, TgKill), new(Load, 0, 0, FirstArgument), new(JumpIfEqual, 1, 0, (uint)Environment.ProcessId), new(Answer, 0, 0, NotPermitted), new(Answer, 0, 0, Allow),
            new(JumpIfEqual, 0, 4, Open), new(Load, 0, 0, FirstArgument + 8), new(JumpIfAnyBit, 0, 1, Writing), new(Answer, 0, 0, NotPermitted), new(Answer, 0, 0, Allow),
            new(JumpIfEqual, 0, 4, OpenAt), new(Load, 0, 0, FirstArgument + 16), new(JumpIfAnyBit, 0, 1, Writing), new(Answer, 0, 0, NotPermitted), new(Answer, 0, 0, Allow),
        };
        foreach (var call in Refused)
        {
            filter.Add(new Instruction(JumpIfEqual, 0, 1, call));
            filter.Add(new Instruction(Answer, 0, 0, NotPermitted));
        }

        filter.Add(new Instruction(Answer, 0, 0, Allow));
        return [.. filter];
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
