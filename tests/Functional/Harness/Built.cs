using System.Reflection;

namespace Sconce.Functional.Harness;

/// <summary>Plug-ins that are built with these tests.</summary>
internal static class Built
{
    /// <summary>The folder that a project is built to.</summary>
    public static string Folder(string project) =>
        typeof(Built).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == project).Value!;
}
