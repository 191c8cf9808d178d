/* sigma(-x)^2, x = beta (score_chosen - score_rejected): a pair that is far on the wrong side costs
 * 1 and pulls no longer, so that a few mislabelled pairs do not lead. Masnadi-Shirazi and
 * Vasconcelos 2008, "On the design of loss functions for classification", eq. 20 (Savage loss). */
#include "prelude.h"

PAIR_LOSS(savage)
{
    real x = p.beta * (s.score_chosen - s.score_rejected);
    real wrong = sigmoid(-x);
    pair_out o;

    o.loss = wrong * wrong;
    o.d_chosen = -2.0 * p.beta * wrong * wrong * sigmoid(x);
    o.d_rejected = -o.d_chosen;
    return o;
}
