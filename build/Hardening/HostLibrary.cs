using System.Runtime.InteropServices;

namespace Sconce.Hardening;

/// <summary>What the C++ library of the machine that builds can do.</summary>
internal static class HostLibrary
{
    /// <summary>The version of libstdc++'s symbols that came with GCC 13.2.</summary>
    public const string Glibcxx3432 = "GLIBCXX_3.4.32";

    /// <summary>True where the loader finds a libstdc++.so.6 that is older than GCC 13.2.</summary>
    /// <remarks>
    /// The loader itself is asked, so LD_LIBRARY_PATH and ld.so.conf count. The symbol is the one that libLibTorchSharp.so names with
    /// version GLIBCXX_3.4.32, and it first appeared with that version.
    /// A machine without the library (Windows, macOS, Alpine) cannot run TorchSharp's linux-x64 natives, so it has no say.
    /// </remarks>
    public static bool LacksGlibcxx3432() =>
        NativeLibrary.TryLoad("libstdc++.so.6", out var library)
        && !NativeLibrary.TryGetExport(library, "_ZSt21ios_base_library_initv", out _);
}
