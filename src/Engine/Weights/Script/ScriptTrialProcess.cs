using System.Globalization;
using System.Text.Json;
using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Weights.Script;

/// <summary>
/// The throw-away process that loads and runs a TorchScript file before the server does. It is this same program, started with <see cref="Verb"/>: a program that hosts the engine and allows TorchScript must call
/// <see cref="Run"/> with the arguments after the verb, and nothing else, when it is started so.
/// </summary>
public static class ScriptTrialProcess
{
    /// <summary>The first argument of the program's command line.</summary>
    public const string Verb = "script-trial";

    /// <summary>Exit code: the file was loaded and run.</summary>
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
            var examples = JsonSerializer.Deserialize<ScriptExample[]>(inputs);
            TorchLibrary.Load(intraOpThreads: 1);

            // Everything that is read lazily is read before the limits: libtorch's own tables, and the code of what comes.
            using (var warm = ones(1))
            using (var sum = warm + warm)
            {
                _ = sum.item<float>();
            }

            EndWithParent();
            EndBeforeServer();
            try
            {
                Confinement.Enter(memory, seconds);
            }
            catch (PlatformNotSupportedException exception)
            {
                Console.Error.WriteLine(exception.Message);
                return Unconfined;
            }

            using var module = jit.load(path);
            if (examples is not null)
            {
                RunAsServed(module, examples);
                RunAsTrained(module, examples);
            }

            Console.Out.WriteLine("passed");
            return Passed;
        }
        catch (Exception exception)
        {
            // Whatever it was, it ends this process only, and its first lines are what the caller is told.
            Console.Error.WriteLine(exception is NotSupportedException ? $"forward {exception.Message}" : CallFailure.Cause(exception));
            return Failed;
        }
    }

    // Twice: libtorch rewrites the code after it has seen it run, and runs something else then.
    private static void RunAsServed(jit.ScriptModule module, ScriptExample[] examples)
    {
        using var quiet = no_grad();
        module.eval();
        for (var i = 0; i < 2; i++)
        {
            using var scope = NewDisposeScope();
            var values = Array.ConvertAll(examples, example => example.Value());
            _ = ScriptNode.Invoke(module, ScriptNode.Forwarding, values);
        }
    }

    // Not every module can be trained, or with such an example (BatchNorm takes no batch of one): an error is none of the file, a crash or an endless loop is.
    private static void RunAsTrained(jit.ScriptModule module, ScriptExample[] examples)
    {
        try
        {
            using var scope = NewDisposeScope();
            module.train();
            var values = Array.ConvertAll(examples, example => example.Value());
            var outputs = Tensors(ScriptNode.Invoke(module, ScriptNode.Forwarding, values)).Where(tensor => tensor.requires_grad).ToList();
            if (outputs.Count > 0)
            {
                autograd.backward(outputs, [.. outputs.Select(output => ones_like(output))], false);
            }
        }
        catch (Exception exception) when (CallFailure.IsNative(exception))
        {
            // As said.
        }
    }

    private static IEnumerable<Tensor> Tensors(object? value) => value switch
    {
        Tensor tensor => [tensor],
        System.Runtime.CompilerServices.ITuple tuple => Enumerable.Range(0, tuple.Length).SelectMany(i => Tensors(tuple[i])),
        System.Collections.IEnumerable list and not string => list.Cast<object?>().SelectMany(Tensors),
        _ => [],
    };

    // Where the host's memory runs out all the same, it is this process that the kernel should end.
    private static void EndBeforeServer()
    {
        try
        {
            File.WriteAllText("/proc/self/oom_score_adj", "1000");
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // Some sandboxes have none; the limit of memory stays.
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
