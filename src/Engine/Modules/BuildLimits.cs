namespace Sconce.Engine.Modules;

/// <summary>How large a tree may be.</summary>
/// <param name="MaxDepth">Most levels of nested modules.</param>
/// <param name="MaxModules">Most modules, counted under each of their names.</param>
/// <param name="MaxCalls">Most calls of submodules and functions that one forward may make.</param>
public sealed record BuildLimits(int MaxDepth = 64, int MaxModules = 10_000, int MaxCalls = 100_000);
