using Sconce.V1;

namespace Sconce.Client;

/// <summary>How a state dict is written to a file of the server.</summary>
public sealed class SaveStateFileOptions
{
    /// <summary>Which part of the state dict, and in which dtype.</summary>
    public StateDictOptions State { get; init; } = new();

    /// <summary>The format; unspecified is PyTorch's for names that end in <c>.pt</c> or <c>.pth</c>, and safetensors for others.</summary>
    public StateFileFormat Format { get; init; }

    /// <summary>Take the place of a file of that name; false refuses it.</summary>
    public bool Overwrite { get; init; }
}

/// <summary>How a module is made, and what it begins with.</summary>
public sealed class CreateModuleOptions
{
    /// <summary>Seed for the initial values; null leaves them to the server's generator.</summary>
    public long? Seed { get; init; }

    /// <summary>Floating dtype of parameters and buffers; null is float32.</summary>
    public DataType? DType { get; init; }

    /// <summary>Values to begin with, for what fits one message; null leaves the initial ones. Where they do not fit, no module is made.</summary>
    public StateDict? State { get; init; }

    /// <summary>Whether <see cref="State"/> must have all of the module's keys and no others.</summary>
    public bool StrictState { get; init; } = true;

    /// <summary>A file of the server's models directory to begin with, by its name there; null for none. Where it does not fit, no module is made.</summary>
    public string? StateFile { get; init; }

    /// <summary>A shared region to begin with what is in it, as <see cref="RemoteModule.LoadStateSharedAsync(SharedRegion, LoadStateDictOptions?, long, string, CancellationToken)"/> loads it; null for none. Where it does not fit, no module is made.</summary>
    public SharedRegion? StateRegion { get; init; }

    /// <summary>Bytes of the file in <see cref="StateRegion"/>, which begins where that does; 0 is all of it.</summary>
    public long StateRegionBytes { get; init; }

    /// <summary>Where in a PyTorch file, <see cref="StateFile"/> or in <see cref="StateRegion"/>, the state dict is, e.g. <c>state_dict</c>; empty where it is the whole file.</summary>
    public string RootKey { get; init; } = "";

    /// <summary>How <see cref="StateFile"/> or <see cref="StateRegion"/> is loaded.</summary>
    public LoadStateDictOptions StateFileOptions { get; init; } = new();
}
