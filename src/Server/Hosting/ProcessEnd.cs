using System.Runtime.InteropServices;

namespace Sconce.Server.Hosting;

/// <summary>
/// Ends the process at once. An ordinary exit unloads libtorch (it runs C++ destructors of statics) while threads may still compute in it, which gives
/// errors of the last moment at best and a crash instead of an exit code at worst. SIGKILL to oneself would skip that too, but a supervisor reads it as
/// a failure. <c>_exit</c> does nothing but end all threads and give the code; the kernel frees the rest.
/// </summary>
internal static class ProcessEnd
{
    /// <summary>Ends the process; what is to be seen of the log and of standard output must have been written.</summary>
    public static void Now(int code) => Exit(code);

    [DllImport("libc", EntryPoint = "_exit")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern void Exit(int code);
}
