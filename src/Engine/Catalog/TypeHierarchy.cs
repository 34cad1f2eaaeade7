namespace Sconce.Engine.Catalog;

/// <summary>PyTorch's module types that only serve as bases, and concrete types that others derive from.</summary>
internal static class TypeHierarchy
{
    private static readonly Dictionary<string, string> Bases = new()
    {
        ["_BatchNorm"] = "_NormBase",
        ["_InstanceNorm"] = "_NormBase",
        ["_NormBase"] = "Module",
        ["_ConvTransposeNd"] = "_ConvNd",
        ["_ConvNd"] = "Module",
        ["_DropoutNd"] = "Module",
        ["_MaxPoolNd"] = "Module",
        ["_MaxUnpoolNd"] = "Module",
        ["_AvgPoolNd"] = "Module",
        ["_LPPoolNd"] = "Module",
        ["_AdaptiveAvgPoolNd"] = "Module",
        ["_AdaptiveMaxPoolNd"] = "Module",
        ["_ConstantPadNd"] = "Module",
        ["_CircularPadNd"] = "Module",
        ["_ReflectionPadNd"] = "Module",
        ["_ReplicationPadNd"] = "Module",
        ["ConstantPad1d"] = "_ConstantPadNd",
        ["ConstantPad2d"] = "_ConstantPadNd",
        ["ConstantPad3d"] = "_ConstantPadNd",
        ["Conv1d"] = "_ConvNd",
        ["Conv2d"] = "_ConvNd",
        ["Conv3d"] = "_ConvNd",
        ["ConvTranspose1d"] = "_ConvTransposeNd",
        ["ConvTranspose2d"] = "_ConvTransposeNd",
        ["ConvTranspose3d"] = "_ConvTransposeNd",
        ["RNNBase"] = "Module",
        ["RNNCellBase"] = "Module",
        ["Hardtanh"] = "Module",
        ["Linear"] = "Module",
        ["Upsample"] = "Module",
    };

    /// <summary>Every name that <c>isinstance</c> may ask for beside the concrete types.</summary>
    public static IEnumerable<string> Names => Bases.Keys.Append("Module");

    /// <summary>Whether <paramref name="type"/> is <paramref name="ancestor"/> or derives from it.</summary>
    public static bool Derives(string? type, string ancestor)
    {
        for (; type is not null; type = Bases.GetValueOrDefault(type, type == "Module" ? null! : "Module"))
        {
            if (type == ancestor)
            {
                return true;
            }
        }

        return false;
    }
}
