using System.Globalization;
using Sconce.GcStress;

// gcstress SECONDS [TorchSharp.dll]: trains on several threads while another collects garbage without pause. Exit status 0 means that
// every round gave the same losses as a round without collections; a crash or another status means that memory in use was freed.
// The second argument runs the same code on another TorchSharp.dll than the one this program ships.
if (args is not [var seconds, ..] || !int.TryParse(seconds, NumberStyles.None, CultureInfo.InvariantCulture, out var length))
{
    Console.Error.WriteLine("usage: gcstress SECONDS [TorchSharp.dll]");
    return 64;
}

return args.Length == 1
    ? Stress.Run(length)
    : (int)new ReplacedTorchSharp(Path.GetFullPath(args[1])).Invoke(typeof(Stress), nameof(Stress.Run), length);
