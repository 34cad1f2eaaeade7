namespace Sconce.Engine.Regions;

/// <summary>A state dict that a caller has put into a shared region, as a file: safetensors, or PyTorch's zip.</summary>
/// <param name="Region">The region's id.</param>
/// <param name="Bytes">Bytes of the file, which begins where the region does; 0 where it fills the region.</param>
/// <param name="RootKey">Where in a PyTorch file the state dict is, as keys with dots between, e.g. <c>state_dict</c>; empty where it is the whole file.</param>
/// <param name="Field">Where this stands in the request, e.g. <c>state.</c>.</param>
public sealed record SharedStateRef(string Region, ulong Bytes = 0, string RootKey = "", string Field = "state.");
