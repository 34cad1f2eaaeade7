using System.Globalization;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Optimizers;

/// <summary>
/// Steps of two elements each, before a real one: libtorch refuses a number beyond a parameter's dtype only where it meets it, when parameters before it have been
/// stepped. To copy all of them in case of that would cost about as much as the step.
/// </summary>
internal static class StepTrial
{
    // Whatever a rule makes of options and state no larger than this is within float32 and bfloat16: the most that it divides by is 1 - beta, 1e-16 at least.
    private const double Harmless = 1e3;

    /// <summary>Throws what a step of the group would throw because of its numbers.</summary>
    /// <param name="rule">The optimizer's type.</param>
    /// <param name="group">The group.</param>
    /// <param name="gradients">The gradient of each parameter; null for those that stay.</param>
    public static void Run(PerParameterRule rule, OptimizerGroup group, IReadOnlyList<Tensor?> gradients)
    {
        var harmless = group.Options.Values.Values.All(IsHarmless);
        HashSet<string>? tried = null;
        for (var i = 0; i < gradients.Count; i++)
        {
            var (state, parameter) = (group.States[i], group.Parameters[i].Parameter);
            if (gradients[i] is not null && !(harmless && parameter.dtype != ScalarType.Float16 && state.Scalars.All(entry => entry.Key == "step" || IsHarmless(entry.Value)))
                && (tried ??= []).Add(Numbers(parameter, state)))
            {
                Try(rule, parameter, state, group.Options);
            }
        }
    }

    private static void Try(PerParameterRule rule, Tensor like, ParameterState state, OptionSet options)
    {
        // Not of one element: libtorch fills such a one without looking at the range.
        using var two = new Parameter(zeros(2, like.dtype, like.device));
        using var likeness = state.Likeness(two);
        rule.UpdateAny(two, zeros(2, like.dtype, like.device), likeness, options);
    }

    private static bool IsHarmless(object? value) => value switch
    {
        double number => IsHarmless(number),
        IReadOnlyList<double> numbers => numbers.All(IsHarmless),
        _ => true,
    };

    private static bool IsHarmless(double number) => Math.Abs(number) <= Harmless;

    // Parameters of one group may have taken different numbers of steps.
    private static string Numbers(Tensor parameter, ParameterState state) =>
        string.Create(CultureInfo.InvariantCulture, $"{parameter.dtype} {string.Join(' ', state.Scalars.Select(entry => entry.Key + '=' + entry.Value.ToString("R", CultureInfo.InvariantCulture)))}");
}
