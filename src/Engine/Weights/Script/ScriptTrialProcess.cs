using System.Globalization;
using System.Text.Json;
using Sconce.Engine.Execution;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Weights.Script;

/// <summary>
/// The throw-away process that loads a TorchScript file before the server does. It is this same program, started with <see cref="Verb"/>: a program that hosts the engine and allows TorchScript must call
/// <see cref="Run"/> with the arguments after the verb, and nothing else, when it is started so.
/// </summary>
public static class ScriptTrialProcess
{
    /// <summary>The first argument of the program's command line.</summary>
    public const string Verb = "script-trial";

    /// <summary>Exit code: the file was loaded, and run where there was an example.</summary>
    internal const int Passed = 0;

    /// <summary>Exit code: libtorch refused the file or the example; standard error tells why.</summary>
    internal const int Failed = 3;

    /// <summary>Exit code: the process could not be confined, so that nothing was loaded.</summary>
    internal const int Unconfined = 4;

    // Less than the threads have that run modules in the server.
    private const int StackBytes = 8 << 20;

    /// <summary>Loads and runs the file that the arguments name, and gives back the exit code. Ends the process when standard input ends: whoever started it is gone.</summary>
    /// <param name="arguments">As <see cref="ScriptTrial"/> makes them: path, bytes, seconds, and inputs as JSON.</param>
    public static int Run(IReadOnlyList<string> arguments)
    {
        ArgumentNullException.ThrowIfNull(arguments);
        if (arguments.Count != 4 || !long.TryParse(arguments[1], CultureInfo.InvariantCulture, out var memory) || !int.TryParse(arguments[2], CultureInfo.InvariantCulture, out var seconds))
        {
            Console.Error.WriteLine($"{Verb} is for the server itself.");
            return 64;
        }

        var code = Failed;
        var thread = new Thread(() => code = Try(arguments[0], memory, seconds, arguments[3]), StackBytes);
        thread.Start();
        thread.Join();

        // Not by returning: what libtorch tears down at exit is of no interest.
        Console.Out.Flush();
        Console.Error.Flush();
        return code;
    }

    private static int Try(string path, long memory, int seconds, string inputs)
    {
        try
        {
            var examples = JsonSerializer.Deserialize<ScriptExample[]>(inputs)!;
            TorchLibrary.Load(intraOpThreads: 1);

            // Everything that is read lazily is read before the limits: libtorch's own tables, and the code of what comes.
            using (var warm = ones(1))
            using (var sum = warm + warm)
            {
                _ = sum.item<float>();
            }

            EndWithParent();
            try
            {
                Confinement.Enter(memory, seconds);
            }
            catch (PlatformNotSupportedException exception)
            {
                Console.Error.WriteLine(exception.Message);
                return Unconfined;
            }

            using var quiet = no_grad();
            using var module = jit.load(path);
            module.eval();
            if (examples.Length > 0)
            {
                var values = examples.Select(example => (object)ones(example.Shape, dtype: Enum.Parse<ElementType>(example.Type).ToScalarType())).ToArray();
                _ = module.invoke("forward", values);
            }

            Console.Out.WriteLine("passed");
            return Passed;
        }
        catch (Exception exception)
        {
            // Whatever it was, it ends this process only, and its first lines are what the caller is told.
            Console.Error.WriteLine(exception.Message);
            return Failed;
        }
    }

    private static void EndWithParent()
    {
        var watch = new Thread(() =>
        {
            try
            {
                using var input = Console.OpenStandardInput();
                while (input.Read(new byte[1]) > 0)
                {
                }
            }
            catch (IOException)
            {
                // It has ended all the same.
            }

            Environment.Exit(Failed);
        })
        { IsBackground = true };
        watch.Start();
    }
}

/// <summary>An input that a trial gives to forward: ones.</summary>
/// <param name="Type">Its element type, by the name of <see cref="ElementType"/>.</param>
/// <param name="Shape">Its shape.</param>
internal sealed record ScriptExample(string Type, long[] Shape);
